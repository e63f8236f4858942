//! The source of the book: the pages that the summary names, and the files that these refer to, copied.
//!
//! A folder of pages is named by its README.md alone. Its other pages come below that, in the order in which it links
//! to them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail};

/// The list of the pages, with paths from where it is.
const SUMMARY: &str = "docs/SUMMARY.md";

/// The file by which a directory is known to be a book.
pub const MARK: &str = "SUMMARY.md";

/// The style of the book beside mdBook's own.
const STYLE: &str = include_str!("book.css");

/// Copies the source of the book from the tree at `root` to a directory of the same layout; returns the number of
/// pages.
///
/// # Errors
/// When a page below docs is not in the summary, the summary names a page that is not there, or a file cannot be read
/// or written.
pub fn write(root: &Path, directory: &Path) -> Result<usize> {
    let summary = with_folders(root, &read(&root.join(SUMMARY))?)?;
    let pages = pages(&summary)?;
    let left_out = left_out(root, &pages)?;
    if !left_out.is_empty() {
        bail!("{SUMMARY} does not name {}", left_out.join(", "));
    }
    fs::create_dir_all(directory)?;
    fs::write(directory.join(MARK), from_root(&summary)?)?;
    fs::write(directory.join("book.css"), STYLE)?;
    for page in &pages {
        let text = read(&root.join(page)).with_context(|| format!("named in {SUMMARY}"))?;
        for file in targets(&text).filter_map(|target| resolve(page.parent()?, target)) {
            let is_page = file.extension().is_some_and(|extension| extension == "md");
            if !is_page && root.join(&file).is_file() {
                let to = directory.join(&file);
                fs::create_dir_all(to.parent().unwrap_or(directory))?;
                fs::copy(root.join(&file), &to).with_context(|| format!("cannot copy {}", file.display()))?;
            }
        }
        let to = directory.join(page);
        fs::create_dir_all(to.parent().unwrap_or(directory))?;
        fs::write(to, plain_headings(&text))?;
    }
    Ok(pages.len())
}

/// A page whose headings may end with a brace: mdBook would take `{name}` there for attributes.
fn plain_headings(text: &str) -> String {
    let mut is_code = false;
    let mut plain = String::with_capacity(text.len());
    for line in text.lines() {
        is_code ^= line.starts_with("```");
        match line.strip_suffix('}').filter(|_| line.starts_with('#') && !is_code) {
            Some(heading) => plain.push_str(&format!("{heading}&#125;")),
            None => plain.push_str(line),
        }
        plain.push('\n');
    }
    plain
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// The summary with the pages of the folders whose README.md it names.
fn with_folders(root: &Path, summary: &str) -> Result<String> {
    let mut whole = String::new();
    for line in summary.lines() {
        whole.push_str(line);
        whole.push('\n');
        let folder = targets(line).next().and_then(|target| target.strip_suffix("/README.md"));
        let Some(folder) = folder.filter(|folder| !folder.starts_with('.')) else { continue };
        let directory = root.join("docs").join(folder);
        let indent = line.len() - line.trim_start().len();
        for (name, title) in folder_pages(&directory)? {
            whole.push_str(&format!("{:indent$}  - [{title}]({folder}/{name})\n", ""));
        }
    }
    Ok(whole)
}

/// The names and titles of the pages beside a folder's README.md: as that links to them, then by name.
fn folder_pages(directory: &Path) -> Result<Vec<(String, String)>> {
    let readme = read(&directory.join("README.md"))?;
    let order: Vec<&str> = targets(&readme).collect();
    let mut pages = Vec::new();
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.ends_with(".md") && name != "README.md" {
            let text = read(&directory.join(&name))?;
            let title = text.lines().find_map(|line| line.strip_prefix("# "));
            let title = title.with_context(|| format!("{}/{name} has no title", directory.display()))?;
            let place = order.iter().position(|target| *target == name).unwrap_or(order.len());
            pages.push((place, name, title.replace(['`', '[', ']'], "")));
        }
    }
    pages.sort();
    Ok(pages.into_iter().map(|(_, name, title)| (name, title)).collect())
}

/// The pages of a summary, from the root of the tree.
fn pages(summary: &str) -> Result<BTreeSet<PathBuf>> {
    let base = Path::new(SUMMARY).parent().unwrap_or(Path::new(""));
    let mut pages = BTreeSet::new();
    for target in targets(summary) {
        let page = resolve(base, target).with_context(|| format!("{SUMMARY} leaves the tree by {target}"))?;
        if !pages.insert(page) {
            bail!("{SUMMARY} names {target} twice");
        }
    }
    Ok(pages)
}

/// The summary with its paths from the root of the tree.
fn from_root(summary: &str) -> Result<String> {
    let mut text = summary.to_owned();
    let base = Path::new(SUMMARY).parent().unwrap_or(Path::new(""));
    for target in targets(summary) {
        let page = resolve(base, target).with_context(|| format!("{SUMMARY} leaves the tree by {target}"))?;
        text = text.replacen(&format!("]({target})"), &format!("](<./{}>)", page.display()), 1);
    }
    Ok(text)
}

/// The pages below docs that are not among these.
fn left_out(root: &Path, pages: &BTreeSet<PathBuf>) -> Result<Vec<String>> {
    let mut left_out = Vec::new();
    let mut directories = vec![PathBuf::from("docs")];
    while let Some(directory) = directories.pop() {
        let entries = fs::read_dir(root.join(&directory));
        for entry in entries.with_context(|| format!("cannot list {}", directory.display()))? {
            let entry = entry?;
            let path = directory.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md")
                && path != Path::new(SUMMARY)
                && !pages.contains(&path)
            {
                left_out.push(path.display().to_string());
            }
        }
    }
    left_out.sort();
    Ok(left_out)
}

/// The files that a page of Markdown refers to, by links, pictures and sources of pictures, without anchors.
fn targets(text: &str) -> impl Iterator<Item = &str> {
    let links = text.split("](").skip(1).filter_map(|rest| rest.split([')', '#', ' ', '\n']).next());
    let quoted = text.split("src=\"").skip(1).filter_map(|rest| rest.split('"').next());
    links.chain(quoted).filter(|target| !target.is_empty() && !target.contains(':'))
}

/// The path from the root of the tree that `target` is in a page of the directory `base`; `None` outside the tree.
fn resolve(base: &Path, target: &str) -> Option<PathBuf> {
    let mut path = PathBuf::new();
    for part in base.join(target).components() {
        match part {
            Component::Normal(name) => path.push(name),
            Component::ParentDir => path.pop().then_some(())?,
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_files_of_links_and_pictures() {
        let text = "[a](a.md#part) ![b](b.png) <img src=\"c.svg\"> [d](https://example.org) [e](#here) [f](f.md \"F\")";

        assert_eq!(Vec::from_iter(targets(text)), ["a.md", "b.png", "f.md", "c.svg"]);
    }

    #[test]
    fn braces_at_the_end_of_headings_are_text() {
        let text = "## GET /{name}\n```\n# {x}\n```\n{y}\n";

        assert_eq!(plain_headings(text), "## GET /{name&#125;\n```\n# {x}\n```\n{y}\n");
    }

    #[test]
    fn paths_stay_in_the_tree() {
        let docs = Path::new("docs");

        assert_eq!(resolve(docs, "a/../b.md"), Some("docs/b.md".into()));
        assert_eq!(resolve(docs, "../README.md"), Some("README.md".into()));
        assert_eq!(resolve(docs, "../../etc/passwd"), None);
        assert_eq!(resolve(docs, "/etc/passwd"), None);
    }

    #[test]
    fn a_summary_names_pages_from_the_root_and_each_once() {
        let summary = "[vmlan](../README.md)\n- [Install](install.md)\n";

        assert_eq!(pages(summary).unwrap(), BTreeSet::from(["README.md".into(), "docs/install.md".into()]));
        assert_eq!(from_root(summary).unwrap(), "[vmlan](<./README.md>)\n- [Install](<./docs/install.md>)\n");
        assert!(pages("- [a](a.md)\n- [b](a.md)\n").is_err());
        assert!(pages("- [a](../../a.md)\n").is_err());
    }

    #[test]
    fn a_folder_brings_its_pages_in_the_order_of_its_readme() {
        let tree = tempfile::tempdir().unwrap();
        let folder = tree.path().join("docs/recipes");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("README.md"), "# R\n[z](z.md) [a](a.md#x)").unwrap();
        for (name, title) in [("a.md", "A"), ("b.md", "`vmlan` B"), ("z.md", "Z")] {
            fs::write(folder.join(name), format!("<!-- -->\n\n# {title}\n")).unwrap();
        }

        let whole =
            with_folders(tree.path(), "# P\n- [R](recipes/README.md)\n- [T](../README.md)\n").unwrap();

        assert_eq!(
            whole,
            "# P\n- [R](recipes/README.md)\n  - [Z](recipes/z.md)\n  - [A](recipes/a.md)\n  - [vmlan B](recipes/b.md)\n\
             - [T](../README.md)\n"
        );
    }

    #[test]
    fn pages_that_the_summary_does_not_name_are_found() {
        let tree = tempfile::tempdir().unwrap();
        fs::create_dir_all(tree.path().join("docs/recipes")).unwrap();
        for page in ["docs/SUMMARY.md", "docs/a.md", "docs/recipes/b.md", "docs/c.svg"] {
            fs::write(tree.path().join(page), "").unwrap();
        }

        let found = left_out(tree.path(), &BTreeSet::from(["docs/a.md".into()])).unwrap();

        assert_eq!(found, ["docs/recipes/b.md"]);
    }
}
