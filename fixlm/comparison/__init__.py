"""Many runs side by side: the plan, the runs, their table and plots."""
