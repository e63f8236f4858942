//! The links of the project's pages within the project.

use std::fs;
use std::path::Path;

use crate::shell::{Error, root};

/// Where pages are.
const PLACES: [&str; 3] = ["", "docs", "docs/recipes"];

/// Looks whether there is a file behind every link.
///
/// # Errors
/// When one leads nowhere, or a page cannot be read; names all of them.
pub fn run() -> Result<(), Error> {
    let mut troubles = Vec::new();
    for directory in PLACES.map(|place| root().join(place)) {
        match check(&directory) {
            Ok(found) => troubles.extend(found),
            Err(error) => troubles.push(format!("{}: {error}", directory.display())),
        }
    }
    if troubles.is_empty() { Ok(()) } else { Err(Error::Failed(troubles.join("\n"))) }
}

/// The links in a directory's pages that lead nowhere.
fn check(directory: &Path) -> std::io::Result<Vec<String>> {
    let mut broken = Vec::new();
    for entry in fs::read_dir(directory)? {
        let page = entry?.path();
        if page.extension().is_some_and(|extension| extension == "md") {
            let text = fs::read_to_string(&page)?;
            let lost = targets(&text).filter(|target| !directory.join(target).exists());
            broken.extend(
                lost.map(|target| format!("{} links to {target}, which is not there", page.display())),
            );
        }
    }
    Ok(broken)
}

/// The files that a page of Markdown links to.
fn targets(text: &str) -> impl Iterator<Item = &str> {
    let links = text.split("](").skip(1).filter_map(|link| link.split([')', '#']).next());
    links.filter(|target| !target.is_empty() && !target.contains("://"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_to_files_are_found_and_others_are_not() {
        let text =
            "[a](docs/a.md), [b](docs/b.md#part), ![c](c.svg)\n[d](#part), [e](https://example.org/e.md)";
        assert_eq!(Vec::from_iter(targets(text)), ["docs/a.md", "docs/b.md", "c.svg"]);
    }

    #[test]
    fn a_link_that_leads_nowhere_is_told() {
        let name = format!("vmlan-links-{}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("a.md"), "[here](a.md) and [there](b.md)").unwrap();
        let broken = check(&directory);
        fs::remove_dir_all(&directory).unwrap();
        let broken = broken.unwrap();
        assert_eq!(broken.len(), 1);
        assert!(broken[0].ends_with("a.md links to b.md, which is not there"), "{broken:?}");
    }
}
