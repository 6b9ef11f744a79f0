"""The kubelet (and the scheduler): plays a script for each pod, or really runs its containers."""
