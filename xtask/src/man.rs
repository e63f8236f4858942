//! The manual page vmlan.toml(5), made of the page on configuration, so that there is one text.

use std::fs;

use crate::shell::{Error, root};

/// The page that it is made of, and itself.
const SOURCE: &str = "docs/configuration.md";
const PAGE: &str = "docs/vmlan.toml.5";

/// Writes the page.
///
/// # Errors
/// When a file cannot be read or written.
pub fn write() -> Result<(), Error> {
    let page = page()?;
    fs::write(root().join(PAGE), page).map_err(|error| Error::Failed(format!("{PAGE}: {error}")))
}

/// Compares the page with its source.
///
/// # Errors
/// When it is old.
pub fn check() -> Result<(), Error> {
    match fs::read_to_string(root().join(PAGE)) {
        Ok(stored) if stored == page()? => Ok(()),
        _ => Err(Error::Failed(format!("{PAGE} is not what {SOURCE} says: cargo xtask man"))),
    }
}

fn page() -> Result<String, Error> {
    let source = fs::read_to_string(root().join(SOURCE));
    let source = source.map_err(|error| Error::Failed(format!("{SOURCE}: {error}")))?;
    let mut page = String::from(
        ".TH VMLAN.TOML 5 \"\" vmlan \"vmlan manual\"\n.SH NAME\nvmlan.toml \\- configuration of vmlan(1)\n\
         .SH DESCRIPTION\n",
    );
    page.push_str(&roff(&source));
    page.push_str(
        ".SH FILES\n/etc/vmlan/vmlan.toml, $XDG_CONFIG_HOME/vmlan/vmlan.toml\n.SH \"SEE ALSO\"\nvmlan(1)\n",
    );
    Ok(page)
}

/// The Markdown that the pages use, in roff: headings, paragraphs, lists, code and tables.
fn roff(markdown: &str) -> String {
    let mut page = String::new();
    let mut lines = markdown.lines().peekable();
    while let Some(line) = lines.next() {
        if line.starts_with("# ") {
            // The name of the page is its title.
        } else if line.starts_with("##") {
            let title = text(line.trim_start_matches('#').trim()).replace('"', "");
            let kind = if line.starts_with("## ") { "SH" } else { "SS" };
            page.push_str(&format!(".{kind} \"{title}\"\n"));
        } else if line.starts_with("```") {
            page.push_str(".PP\n.nf\n");
            for code in lines.by_ref().take_while(|line| !line.starts_with("```")) {
                page.push_str(&format!("\\&{}\n", escaped(code)));
            }
            page.push_str(".fi\n");
        } else if line.starts_with('|') {
            let mut rows = vec![cells(line)];
            while let Some(row) = lines.next_if(|line| line.starts_with('|')) {
                rows.push(cells(row));
            }
            table(&mut page, &rows);
        } else if let Some(item) = line.strip_prefix("- ") {
            page.push_str(&format!(".IP \\(bu 2\n{}\n", text(item)));
        } else if line.trim().is_empty() {
            // A paragraph begins with text; whatever else stands there begins itself.
            let begins = lines.peek().is_some_and(|next| {
                !next.is_empty() && !["#", "```", "|", "- "].iter().any(|mark| next.starts_with(mark))
            });
            page.push_str(if begins { ".PP\n" } else { "" });
        } else {
            page.push_str(&format!("{}\n", text(line.trim())));
        }
    }
    page
}

/// The cells of a row. A bar behind a backslash is part of its cell.
fn cells(row: &str) -> Vec<String> {
    let row = row.trim().trim_matches('|').replace("\\|", "\u{1}");
    row.split('|').map(|cell| cell.trim().replace('\u{1}', "|")).collect()
}

/// A row becomes a paragraph with its first cell in front; short columns have their titles.
fn table(page: &mut String, rows: &[Vec<String>]) {
    let Some((head, rows)) = rows.split_first() else { return };
    for row in rows.iter().skip(1) {
        let Some((first, rest)) = row.split_first() else { continue };
        page.push_str(&format!(".TP\n.B {}\n", text(first)));
        for (title, cell) in head.iter().skip(1).zip(rest).filter(|(_, cell)| !cell.is_empty()) {
            let line = match title.as_str() {
                "Type" | "Default" | "Needs" => format!("{title}: {}.", text(cell)),
                _ => text(cell),
            };
            page.push_str(&format!("{line}\n"));
        }
    }
}

/// Words in roff: code and stress in bold, links by their words.
fn text(markdown: &str) -> String {
    let mut plain = String::new();
    let mut rest = markdown;
    while let Some((before, behind)) = rest.split_once('[') {
        plain.push_str(before);
        match behind.split_once("](").and_then(|(words, target)| Some((words, target.split_once(')')?.1))) {
            Some((words, after)) if !words.contains([']', '[']) => {
                plain.push_str(words);
                rest = after;
            }
            _ => {
                plain.push('[');
                rest = behind;
            }
        }
    }
    plain.push_str(rest);
    let mut roff = String::new();
    let mut is_bold = false;
    for part in escaped(&plain).replace("**", "`").split('`') {
        if is_bold {
            roff.push_str(&format!("\\fB{part}\\fR"));
        } else {
            roff.push_str(part);
        }
        is_bold = !is_bold;
    }
    // A leading dot or quote would be a request to roff.
    if roff.starts_with(['.', '\'']) { format!("\\&{roff}") } else { roff }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\e").replace('-', "\\-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markdown_becomes_roff() {
        let markdown = "# Title\n\nSee [the page](x.md#a) and `a-b`.\n\n## Keys\n\n| Key | Type | Meaning |\n|---|---|---|\n\
                        | `mtu` | 68 to 9000 | **Largest** packet \\| frame |\n\n```toml\n.x = [1]\n```\n\n- one\n";
        assert_eq!(
            roff(markdown),
            ".PP\nSee the page and \\fBa\\-b\\fR.\n.SH \"Keys\"\n.TP\n.B \\fBmtu\\fR\nType: 68 to 9000.\n\
             \\fBLargest\\fR packet | frame\n.PP\n.nf\n\\&.x = [1]\n.fi\n.IP \\(bu 2\none\n"
        );
        assert_eq!(text("a list [1, 2] stays"), "a list [1, 2] stays");
    }
}
