//! Prints a C program that compiles when macOS's headers say the same as `sys::darwin`, for `cargo xtask macos`.

fn main() {
    print!("{}", vmlan_sys::darwin::layout::program());
}
