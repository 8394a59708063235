//! Placeholder: see the workspace's DESIGN.
