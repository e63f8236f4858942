//! Decides which requests of the page go on to the daemon.

use hyper::Method;

/// The way of a request for data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route {
    /// The server tells of itself.
    About,
    /// Goes on to the daemon as it is.
    Daemon,
    /// Goes on to the daemon with a configuration file's text as a configuration.
    Apply,
    /// Would change something, which this server does not do.
    ReadOnly,
    /// Is none of the page's.
    Unknown,
}

/// The route of a request. Every GET of the interface only reads; of the rest a list is taken.
pub(crate) fn of(method: &Method, path: &str, query: Option<&str>, writes: bool) -> Route {
    // `dry_run` in a query holds whatever the body says.
    let dry = query == Some("dry_run=true");
    let changes = |route| match writes || dry {
        true => route,
        false => Route::ReadOnly,
    };
    match (method, path) {
        (&Method::GET, "/ui/about") => Route::About,
        // It opens another page, with rights that this one may not have.
        (&Method::GET, "/v1/ui") => Route::Unknown,
        (&Method::GET, path) if path.starts_with("/v1/") => Route::Daemon,
        (&Method::POST, "/v1/capture") if query.is_none() => Route::Daemon,
        (&Method::DELETE, path) if query.is_none() && is_capture(path) => Route::Daemon,
        (&Method::POST, "/ui/apply") => changes(Route::Apply),
        (&Method::POST, "/v1/reload") => changes(Route::Daemon),
        (&Method::PATCH, path) if path.starts_with("/v1/networks/") => changes(Route::Daemon),
        _ => Route::Unknown,
    }
}

/// True if the daemon changes its configuration at such a request.
pub(crate) fn changes(method: &Method, target: &str) -> bool {
    method != Method::GET && !target.starts_with("/v1/capture") && !target.ends_with("?dry_run=true")
}

/// True if the path is that of a capture.
fn is_capture(path: &str) -> bool {
    let number = path.strip_prefix("/v1/capture/");
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|octet| octet.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn captures_and_dry_runs_change_nothing() {
        for (method, target, expected) in [
            (Method::GET, "/v1/ports", false),
            (Method::POST, "/v1/capture", false),
            (Method::DELETE, "/v1/capture/7", false),
            (Method::POST, "/v1/apply?dry_run=true", false),
            (Method::POST, "/v1/apply?dry_run=false", true),
            (Method::POST, "/v1/reload", true),
            (Method::PATCH, "/v1/networks/lab/ports/web", true),
        ] {
            assert_eq!(changes(&method, target), expected, "{method} {target}");
        }
    }

    #[test]
    fn only_what_reads_goes_on_unless_the_page_may_write() {
        for (method, path, query, reading, writing) in [
            ("GET", "/v1/ports", Some("network=lab"), Route::Daemon, Route::Daemon),
            ("GET", "/v1/events", None, Route::Daemon, Route::Daemon),
            ("GET", "/ui/about", None, Route::About, Route::About),
            ("GET", "/v1/ui", None, Route::Unknown, Route::Unknown),
            ("GET", "/v2/ports", None, Route::Unknown, Route::Unknown),
            ("POST", "/v1/capture", None, Route::Daemon, Route::Daemon),
            ("DELETE", "/v1/capture/7", None, Route::Daemon, Route::Daemon),
            ("DELETE", "/v1/capture/", None, Route::Unknown, Route::Unknown),
            ("DELETE", "/v1/capture/../networks/lab", None, Route::Unknown, Route::Unknown),
            ("DELETE", "/v1/networks/lab", None, Route::Unknown, Route::Unknown),
            ("POST", "/v1/apply", Some("dry_run=true"), Route::Unknown, Route::Unknown),
            ("POST", "/ui/apply", None, Route::ReadOnly, Route::Apply),
            ("POST", "/ui/apply", Some("dry_run=false"), Route::ReadOnly, Route::Apply),
            ("POST", "/ui/apply", Some("dry_run=true"), Route::Apply, Route::Apply),
            ("POST", "/v1/reload", None, Route::ReadOnly, Route::Daemon),
            ("POST", "/v1/reload", Some("dry_run=true"), Route::Daemon, Route::Daemon),
            ("PATCH", "/v1/networks/lab/ports/web", None, Route::ReadOnly, Route::Daemon),
            ("HEAD", "/v1/ports", None, Route::Unknown, Route::Unknown),
            ("CONNECT", "/v1/ports", None, Route::Unknown, Route::Unknown),
        ] {
            let method = Method::from_bytes(method.as_bytes()).expect("a method");
            assert_eq!(of(&method, path, query, false), reading, "{method} {path} {query:?}");
            assert_eq!(of(&method, path, query, true), writing, "{method} {path} {query:?}");
        }
    }
}
