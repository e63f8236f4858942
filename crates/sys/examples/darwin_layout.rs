//! Prints a C program that compiles when macOS's headers say the same as `sys::darwin`, for `cargo xtask macos`.

fn main() {
    let (program, count) = sys::darwin::layout::program();
    print!("{program}");
    eprintln!("{count} facts; not in headers that can be had:");
    sys::darwin::layout::UNCHECKED.iter().for_each(|what| eprintln!("  {what}"));
}
