//! Tells cargo that the embedded migrations are an input, so that a new file there is picked up.

fn main() {
    println!("cargo:rerun-if-changed=../../migrations");
}
