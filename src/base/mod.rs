//! From the world in: a base becomes a pinned root file system layer.
