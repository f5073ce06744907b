//! How the tests are linked.

fn main() {
    // At a fixed address: victims, talkers and hogs are the test's own program again, and to move a large one when it starts takes an
    // emulated machine a sixth of a second.
    println!("cargo:rustc-link-arg-tests=-no-pie");
    println!("cargo:rerun-if-changed=build.rs");
}
