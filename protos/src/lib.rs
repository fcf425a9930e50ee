//! the wire types of containerd, generated.
