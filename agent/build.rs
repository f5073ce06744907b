//! How the agent is linked.

fn main() {
    // At a fixed address: a program that is moved when it starts has a megabyte of its own for what points into itself, and pays for it at
    // each start. The agent's holders and its watchdog are this program again. As it is shipped (`cargo agent`) it has a fixed address too.
    println!("cargo:rustc-link-arg-bins=-no-pie");
    println!("cargo:rerun-if-changed=build.rs");
}
