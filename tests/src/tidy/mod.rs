//! The repository's own rules, as functions from a tree of files to sentences about what breaks them.
//!
//! A rule that only a reviewer knows is forgotten; one that a lint can express is a lint. These are the rest.

mod rules;
mod tree;

pub use rules::{
    code_map, dependency_direction, faults_are_told, file_length, forbidden_unsafe, goldens,
    leftovers, one_door, outside_tools, purity, top_level, unsafe_stays_in_the_kernel_folder,
};
pub use tree::Tree;
