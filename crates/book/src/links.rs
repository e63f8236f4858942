//! The links of the rendered book: each file and each anchor that one names has to be there. Nothing is fetched; of
//! links to elsewhere only the form is looked at. Rows of tables that were not taken for such are found as well.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// The page for addresses that do not exist. It is served in their place, so its links begin at the site's root.
const NOT_FOUND: &str = "404.html";

/// Links told of at most.
const TOLD: usize = 40;

/// A link, or a picture, a script or a style.
#[derive(Debug, PartialEq, Eq)]
struct Link {
    /// The file that it names, without anchor; empty for the page itself.
    path: String,
    anchor: Option<String>,
}

/// The links and anchors of a page.
#[derive(Debug, Default)]
struct Page {
    links: Vec<String>,
    anchors: BTreeSet<String>,
}

/// Follows all links of the pages below a directory; returns their number.
///
/// # Errors
/// When one leads nowhere, or a table is broken; names all of them.
pub fn check(directory: &Path) -> Result<usize> {
    let mut files = BTreeSet::new();
    list(directory, Path::new(""), &mut files)?;
    let mut pages = BTreeMap::new();
    let mut troubles = Vec::new();
    for file in files.iter().filter(|file| file.extension().is_some_and(|extension| extension == "html")) {
        if file != Path::new(NOT_FOUND) {
            let path = directory.join(file);
            let text =
                fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            if text.contains("<p>| ") {
                troubles.push(format!("{}: a row of a table stands apart from its table", file.display()));
            }
            pages.insert(file.clone(), read(&text));
        }
    }
    let mut checked = 0;
    for (file, page) in &pages {
        checked += page.links.len();
        let faults = page.links.iter().filter_map(|link| Some((link, fault(file, link, &files, &pages)?)));
        troubles.extend(faults.map(|(link, fault)| format!("{}: {link}: {fault}", file.display())));
    }
    let more = troubles.len().saturating_sub(TOLD);
    troubles.truncate(TOLD);
    if more > 0 {
        troubles.push(format!("and {more} more"));
    }
    if troubles.is_empty() { Ok(checked) } else { bail!("faults of the book:\n{}", troubles.join("\n")) }
}

fn list(directory: &Path, below: &Path, files: &mut BTreeSet<PathBuf>) -> Result<()> {
    let place = directory.join(below);
    for entry in fs::read_dir(&place).with_context(|| format!("cannot list {}", place.display()))? {
        let entry = entry?;
        let path = below.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true => list(directory, &path, files)?,
            false => drop(files.insert(path)),
        }
    }
    Ok(())
}

/// The reason why a link of a page leads nowhere, if it does.
fn fault(
    page: &Path,
    link: &str,
    files: &BTreeSet<PathBuf>,
    pages: &BTreeMap<PathBuf, Page>,
) -> Option<&'static str> {
    if let Some((scheme, rest)) = link.split_once(':')
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
    {
        return fault_of_form(scheme, rest);
    }
    let Link { path, anchor } = parse(link)?;
    let Some(target) = resolve(page, &path) else { return Some("it leaves the book") };
    if !files.contains(&target) {
        return Some("there is no such file");
    }
    let anchor = anchor?;
    // The anchors of pictures and text files are the reader's business.
    let there = pages.get(&target)?;
    (!anchor.is_empty() && !there.anchors.contains(&anchor)).then_some("there is no such anchor")
}

/// The fault of a link to elsewhere, by its form alone.
fn fault_of_form(scheme: &str, rest: &str) -> Option<&'static str> {
    let host = rest.strip_prefix("//").map(|rest| rest.split(['/', '?', '#']).next().unwrap_or_default());
    let is_well_formed = match scheme {
        "http" | "https" => host.is_some_and(|host| {
            host.contains('.') && host.chars().all(|c| c.is_ascii_alphanumeric() || ".-:".contains(c))
        }),
        "mailto" => rest.contains('@'),
        "data" => true,
        _ => return Some("no browser follows that"),
    };
    let has_spaces = rest.chars().any(char::is_whitespace);
    (!is_well_formed || has_spaces).then_some("it is not well-formed")
}

/// A link in its parts; `None` without any.
fn parse(link: &str) -> Option<Link> {
    let (path, anchor) = link.split_once('#').map_or((link, None), |(path, anchor)| (path, Some(anchor)));
    let path = path.split('?').next().unwrap_or_default();
    let link = Link { path: decoded(path), anchor: anchor.map(decoded) };
    (!link.path.is_empty() || link.anchor.is_some()).then_some(link)
}

/// Text without percent signs of a link.
fn decoded(text: &str) -> String {
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, behind @ ..] = rest {
        let hex = behind.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.filter(|_| *first == b'%').and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(octet) => {
                octets.push(octet);
                rest = &behind[2..];
            }
            None => {
                octets.push(*first);
                rest = behind;
            }
        }
    }
    String::from_utf8_lossy(&octets).into_owned()
}

/// The file that a link of a page names; `None` outside the book.
fn resolve(page: &Path, path: &str) -> Option<PathBuf> {
    if path.is_empty() {
        return Some(page.to_owned());
    }
    let mut target = page.parent()?.to_owned();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => target.pop().then_some(())?,
            name => target.push(name),
        }
    }
    Some(target)
}

/// The links and anchors of a page.
fn read(html: &str) -> Page {
    let mut page = Page::default();
    let mut rest = html;
    while let Some((_, behind)) = rest.split_once('<') {
        if let Some(comment) = behind.strip_prefix("!--") {
            rest = comment.split_once("-->").map_or("", |(_, after)| after);
            continue;
        }
        let name_end = behind.find(|c: char| !c.is_ascii_alphanumeric() && c != '-').unwrap_or(behind.len());
        let (name, behind) = behind.split_at(name_end);
        rest = attributes(behind, |key, value| match key {
            "href" | "src" | "xlink:href" | "poster" => page.links.push(value),
            "id" => drop(page.anchors.insert(value)),
            "name" if name == "a" => drop(page.anchors.insert(value)),
            _ => {}
        });
        // What stands in a script is no markup.
        if name == "script" || name == "style" {
            let end = format!("</{name}");
            rest = rest.find(&end).map_or("", |at| &rest[at..]);
        }
    }
    page
}

/// Calls `see` for the attributes of a tag; returns what is behind the tag.
fn attributes(tag: &str, mut see: impl FnMut(&str, String)) -> &str {
    let mut rest = tag;
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == '/');
        let end = rest.find(|c: char| c.is_whitespace() || "=/>".contains(c)).unwrap_or(rest.len());
        let (key, behind) = rest.split_at(end);
        let Some(value) = behind.strip_prefix('=') else {
            match behind.strip_prefix('>') {
                Some(after) => return after,
                None if behind.is_empty() => return behind,
                None => {
                    rest = behind;
                    continue;
                }
            }
        };
        let quoted = ['"', '\''].into_iter().find_map(|quote| value.strip_prefix(quote)?.split_once(quote));
        let (value, after) = quoted.unwrap_or_else(|| {
            value.split_at(value.find(|c: char| c.is_whitespace() || c == '>').unwrap_or(value.len()))
        });
        see(key, unescaped(value));
        rest = after;
    }
}

fn unescaped(text: &str) -> String {
    let text = text.replace("&quot;", "\"").replace("&#39;", "'").replace("&#x27;", "'");
    text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_and_anchors_are_read_from_tags_alone() {
        let html = "<!-- <a href=\"no\"> --><h2 id='here'><a class=\"x\" href=\"a.html#b&amp;c\">T</a></h2>\
                    <script src=s.js async>\"<a href='no'>\"</script><img\n src=\"p.svg\" alt=\"a > b\"/><a name=old>";

        let page = read(html);

        assert_eq!(page.links, ["a.html#b&c", "s.js", "p.svg"]);
        assert_eq!(Vec::from_iter(&page.anchors), ["here", "old"]);
    }

    #[test]
    fn faults_of_links_are_found() {
        let files = BTreeSet::from(["a.html", "d/b.html", "d/p.svg"].map(PathBuf::from));
        let page = |anchor: &str| Page { anchors: BTreeSet::from([anchor.to_owned()]), ..Page::default() };
        let pages = BTreeMap::from([("a.html".into(), page("top")), ("d/b.html".into(), page("ä"))]);
        let of_b = |link: &str| fault(Path::new("d/b.html"), link, &files, &pages);

        for good in ["../a.html", "../a.html#top", "#%C3%A4", "#", "p.svg#x", "b.html?q=1", "./b.html"] {
            assert_eq!(of_b(good), None, "{good}");
        }
        for good in ["https://example.org", "http://example.org:80/a?b#c", "mailto:a@example.org"] {
            assert_eq!(of_b(good), None, "{good}");
        }
        for (bad, reason) in [
            ("a.html", "there is no such file"),
            ("../a.html#bottom", "there is no such anchor"),
            ("#top", "there is no such anchor"),
            ("../../a.html", "it leaves the book"),
            ("../d", "there is no such file"),
            ("https:/example.org", "it is not well-formed"),
            ("https://exa mple.org", "it is not well-formed"),
            ("https://localhost", "it is not well-formed"),
            ("javascript:x()", "no browser follows that"),
        ] {
            assert_eq!(of_b(bad), Some(reason), "{bad}");
        }
    }

    #[test]
    fn all_pages_below_a_directory_are_checked() {
        let book = tempfile::tempdir().unwrap();
        fs::create_dir(book.path().join("d")).unwrap();
        fs::write(book.path().join("a.html"), "<a href=\"d/b.html#x\">").unwrap();
        fs::write(book.path().join("d/b.html"), "<p id=\"x\"><a href=\"../a.html\">").unwrap();
        fs::write(book.path().join("404.html"), "<a href=\"none\">").unwrap();
        assert_eq!(check(book.path()).unwrap(), 2);

        fs::write(book.path().join("d/b.html"), "<a href=\"../b.html\"><p>| x | y |</p>").unwrap();

        let error = check(book.path()).unwrap_err().to_string();
        assert!(error.contains("a.html: d/b.html#x: there is no such anchor"), "{error}");
        assert!(error.contains("d/b.html: ../b.html: there is no such file"), "{error}");
        assert!(error.contains("d/b.html: a row of a table"), "{error}");
    }
}
