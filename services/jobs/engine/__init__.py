"""What runs jobs: the controller, the one writer of them, and the rules of jobs, pods and workflows."""
