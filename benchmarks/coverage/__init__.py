"""What of the installed diffusers runs by a plan: every denoiser, scheduler and pipeline."""
