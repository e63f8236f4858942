//! Pages whose blocks of code are run: the blocks, and the form of what they say is shown.

/// The next block of code, and what is behind it.
#[track_caller]
pub fn block(text: &str) -> (&str, &str) {
    let (_, inside) = text.split_once("```").expect("a block");
    let (_, inside) = inside.split_once('\n').expect("a line");
    inside.split_once("```").expect("the end of a block")
}

/// The lines of a text without what differs from one run to the next: numbers but for shares, directories, the user,
/// widths.
pub fn form(text: &str) -> Vec<String> {
    let lines = text.lines().map(str::trim_end).filter(|line| !line.is_empty());
    lines.map(|line| line.split_whitespace().map(word).collect::<Vec<_>>().join(" ")).collect()
}

/// The form of a word.
pub fn word(word: &str) -> String {
    let bare = word.trim_matches('"');
    if bare.starts_with('/') && bare.len() > 1 {
        let name = bare.rsplit('/').next().unwrap_or_default();
        return if name.starts_with("vmlan-demo-") { "/demo".to_owned() } else { format!("/{name}") };
    }
    if word.ends_with('%') {
        return word.to_owned();
    }
    if word.starts_with("user=") {
        return "user".to_owned();
    }
    let mut form = String::new();
    for character in word.chars() {
        match character {
            '0'..='9' if form.ends_with('#') => {}
            '0'..='9' => form.push('#'),
            '.' | ',' if form.ends_with('#') => {}
            other => form.push(other),
        }
    }
    form
}
