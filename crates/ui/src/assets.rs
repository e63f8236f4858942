//! The files of the page, which are in the program.

/// A file of the page.
#[derive(Debug, Clone, Copy)]
pub struct Asset {
    /// Its path: `/style.css`.
    pub path: &'static str,
    /// Its media type.
    pub media: &'static str,
    /// Its octets.
    pub octets: &'static [u8],
}

const SCRIPT: &str = "text/javascript; charset=utf-8";

macro_rules! asset {
    ($path:literal, $file:literal, $media:expr) => {
        Asset { path: $path, media: $media, octets: include_bytes!(concat!("../page/", $file)) }
    };
}

/// All of them.
pub const ASSETS: &[Asset] = &[
    asset!("/", "index.html", "text/html; charset=utf-8"),
    asset!("/style.css", "style.css", "text/css; charset=utf-8"),
    asset!("/api.js", "api.js", SCRIPT),
    asset!("/chart.js", "chart.js", SCRIPT),
    asset!("/dom.js", "dom.js", SCRIPT),
    asset!("/main.js", "main.js", SCRIPT),
    asset!("/pcapng.js", "pcapng.js", SCRIPT),
    asset!("/picture.js", "picture.js", SCRIPT),
    asset!("/store.js", "store.js", SCRIPT),
    asset!("/table.js", "table.js", SCRIPT),
    asset!("/talks.js", "talks.js", SCRIPT),
    asset!("/text.js", "text.js", SCRIPT),
    asset!("/views/capture.js", "views/capture.js", SCRIPT),
    asset!("/views/config.js", "views/config.js", SCRIPT),
    asset!("/views/drops.js", "views/drops.js", SCRIPT),
    asset!("/views/events.js", "views/events.js", SCRIPT),
    asset!("/views/lists.js", "views/lists.js", SCRIPT),
    asset!("/views/networks.js", "views/networks.js", SCRIPT),
    asset!("/views/ports.js", "views/ports.js", SCRIPT),
    asset!("/drops.json", "drops.json", "application/json"),
];

/// The file at a path.
pub(crate) fn at(path: &str) -> Option<&'static Asset> {
    ASSETS.iter().find(|asset| asset.path == path)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    /// The names of the files below a directory, as paths of the page.
    fn files(directory: &Path, prefix: &str) -> Vec<String> {
        let entries = fs::read_dir(directory).expect("the page's directory");
        let files = entries.flat_map(|entry| {
            let entry = entry.expect("an entry");
            let path = format!("{prefix}/{}", entry.file_name().to_string_lossy());
            if entry.path().is_dir() { files(&entry.path(), &path) } else { vec![path] }
        });
        files.collect()
    }

    #[test]
    fn every_file_of_the_page_is_in_the_program_and_all_are_small() {
        let mut files = files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("page"), "");
        let mut known: Vec<_> = ASSETS.iter().map(|asset| asset.path.to_owned()).collect();
        for path in &mut known {
            if path == "/" {
                *path = "/index.html".to_owned();
            }
        }
        files.sort_unstable();
        known.sort_unstable();

        assert_eq!(known, files);
        let octets: usize = ASSETS.iter().map(|asset| asset.octets.len()).sum();
        assert!(octets <= 200 * 1024, "{octets} octets");
    }

    #[test]
    fn nothing_in_the_page_needs_what_the_policy_forbids() {
        for asset in ASSETS {
            let text = std::str::from_utf8(asset.octets).expect("text");
            for forbidden in [
                ".innerHTML",
                "insertAdjacentHTML",
                "document.write",
                "eval(",
                "style=",
                "http://",
                "https://",
            ] {
                // The name of SVG is no address.
                let text = text.replace("http://www.w3.org/2000/svg", "");
                assert!(!text.contains(forbidden), "{}: {forbidden}", asset.path);
            }
        }
    }
}
