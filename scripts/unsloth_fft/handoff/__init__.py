"""From the plan and from the finished run to wherever the user works: rendered files, exports, evaluations."""
