"""RunPod: the driver (`settings.open`) and, in `sim`, its simulator. See the README beside this file."""
