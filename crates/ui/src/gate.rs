//! Decides from the header of a request whether its sender may have an answer. No I/O.

use hyper::header::{self, HeaderMap, HeaderName};
use hyper::{Method, Uri};

use crate::secret::Secret;

/// The header with the key.
const KEY: HeaderName = HeaderName::from_static("vmlan-key");
/// The header by which a browser tells where a request comes from (Fetch Metadata Request Headers, W3C).
const SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The secrets of a server, and the address that browsers know it by.
#[derive(Debug)]
pub(crate) struct Gate {
    /// The only value of `Host`: another name for this address is another site's (DNS rebinding).
    host: String,
    origin: String,
    /// Cookies know no ports, so the name does.
    cookie_name: String,
    token: Secret,
    cookie: Secret,
    key: Secret,
}

/// The part of the server that a request may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pass {
    /// The cookie and the key, for the token.
    Enter,
    /// A file of the page.
    Page,
    /// Data.
    Data,
}

/// The reason why a request gets nothing; a text for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refusal(pub(crate) &'static str);

const NO_TOKEN: Refusal = Refusal("Open the link that `vmlan ui`, or `vmlan ui --link`, printed.\n");
const WRONG_HOST: Refusal = Refusal("This is not the address of the page.\n");
const WRONG_ORIGIN: Refusal = Refusal("Only the page itself may ask for this.\n");

impl Gate {
    pub(crate) fn new(address: std::net::SocketAddr) -> std::io::Result<Gate> {
        Ok(Gate {
            host: address.to_string(),
            origin: format!("http://{address}"),
            cookie_name: format!("vmlan-{}", address.port()),
            token: Secret::new()?,
            cookie: Secret::new()?,
            key: Secret::new()?,
        })
    }

    /// The link that opens the page.
    pub(crate) fn link(&self) -> String {
        format!("{}/?token={}", self.origin, self.token.reveal())
    }

    /// The value of `Set-Cookie`, and that of `Location`, for a client that has the token. The key is in the part of
    /// the address that browsers keep for themselves.
    pub(crate) fn welcome(&self) -> (String, String) {
        let cookie =
            format!("{}={}; Path=/; HttpOnly; SameSite=Strict", self.cookie_name, self.cookie.reveal());
        (cookie, format!("/#key={}", self.key.reveal()))
    }

    /// Decides about a request.
    pub(crate) fn judge(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<Pass, Refusal> {
        if only(headers, &header::HOST) != Ok(Some(&self.host)) || uri.authority().is_some() {
            return Err(WRONG_HOST);
        }
        let token = uri.query().and_then(|query| query.strip_prefix("token="));
        if let Some(token) = token.filter(|_| *method == Method::GET && uri.path() == "/") {
            return if self.token.is(token) { Ok(Pass::Enter) } else { Err(NO_TOKEN) };
        }
        if !self.has_cookie(headers) {
            return Err(NO_TOKEN);
        }
        self.check_origin(method, uri, headers)?;
        if crate::assets::at(uri.path()).is_some() {
            return Ok(Pass::Page);
        }
        match only(headers, &KEY) {
            Ok(Some(key)) if self.key.is(key) => Ok(Pass::Data),
            _ => Err(NO_TOKEN),
        }
    }

    /// True if the cookie is among those of the request.
    fn has_cookie(&self, headers: &HeaderMap) -> bool {
        let lines = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
        let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
        pairs.any(|(name, value)| name == self.cookie_name && self.cookie.is(value))
    }

    /// Refuses what another site's page asks for. Browsers name no origin with a GET of the same one, so there the
    /// other header counts; what never ends has to have one of them.
    fn check_origin(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
        let origin = only(headers, &header::ORIGIN)?;
        let site = only(headers, &SITE)?;
        let is_ours = origin == Some(&self.origin);
        let reads = *method == Method::GET;
        let is_stream = uri.path() == "/v1/events";
        let good = match (origin, site) {
            (Some(_), _) if !is_ours => false,
            (_, Some(site)) if site != "same-origin" && !(reads && site == "none") => false,
            (Some(_), _) => true,
            (None, Some("same-origin")) => reads,
            (None, _) => reads && !is_stream,
        };
        if good { Ok(()) } else { Err(WRONG_ORIGIN) }
    }
}

/// The value of a header that may stand once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Refusal> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(|_| WRONG_ORIGIN),
        _ => Err(WRONG_ORIGIN),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "127.0.0.1:7070";

    fn gate() -> Gate {
        Gate::new(HOST.parse().expect("an address")).expect("random octets")
    }

    fn judge(gate: &Gate, method: &str, path: &str, headers: &[(&str, &str)]) -> Result<Pass, Refusal> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name: HeaderName = name.parse().expect("a name");
            map.append(name, value.parse().expect("a value"));
        }
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        gate.judge(&method, &path.parse().expect("a path"), &map)
    }

    #[test]
    fn a_request_gets_what_its_secrets_open() {
        let gate = gate();
        let (set, location) = gate.welcome();
        let cookie = set.split(';').next().expect("a cookie");
        let key = location.strip_prefix("/#key=").expect("a key");
        let link = gate.link();
        let entrance = link.strip_prefix("http://127.0.0.1:7070").expect("a link");
        let host = ("host", HOST);
        let known = ("cookie", cookie);
        let both = format!("a=b; {cookie}; c=d");
        let ours = ("origin", "http://127.0.0.1:7070");
        let other = ("origin", "http://127.0.0.1:8080");
        let same = ("sec-fetch-site", "same-origin");
        let site = ("sec-fetch-site", "same-site");
        let typed = ("sec-fetch-site", "none");
        let key = ("vmlan-key", key);
        for (method, path, headers, expected) in [
            ("GET", entrance, &[host][..], Ok(Pass::Enter)),
            ("POST", entrance, &[host], Err(NO_TOKEN)),
            ("GET", &entrance[..entrance.len() - 1], &[host], Err(NO_TOKEN)),
            ("GET", entrance, &[("host", "localhost:7070")], Err(WRONG_HOST)),
            ("GET", entrance, &[host, host], Err(WRONG_HOST)),
            ("GET", entrance, &[], Err(WRONG_HOST)),
            ("GET", "http://127.0.0.1:7070/", &[host, known], Err(WRONG_HOST)),
            ("GET", "/", &[host], Err(NO_TOKEN)),
            ("GET", "/", &[host, ("cookie", "vmlan-7070=0")], Err(NO_TOKEN)),
            ("GET", "/", &[host, known], Ok(Pass::Page)),
            ("GET", "/", &[host, known, typed], Ok(Pass::Page)),
            ("GET", "/", &[host, ("cookie", &both), same], Ok(Pass::Page)),
            ("GET", "/", &[("host", "evil.example:7070"), known], Err(WRONG_HOST)),
            ("GET", "/main.js", &[host, known, site], Err(WRONG_ORIGIN)),
            ("GET", "/v1/ports", &[host, known], Err(NO_TOKEN)),
            ("GET", "/v1/ports", &[host, key], Err(NO_TOKEN)),
            ("GET", "/v1/ports", &[host, known, ("vmlan-key", "0")], Err(NO_TOKEN)),
            ("GET", "/v1/ports", &[host, known, key, key], Err(NO_TOKEN)),
            ("GET", "/v1/ports", &[host, known, key], Ok(Pass::Data)),
            ("GET", "/v1/ports", &[host, known, key, other], Err(WRONG_ORIGIN)),
            ("GET", "/v1/events", &[host, known, key], Err(WRONG_ORIGIN)),
            ("GET", "/v1/events", &[host, known, key, typed], Err(WRONG_ORIGIN)),
            ("GET", "/v1/events", &[host, known, key, same], Ok(Pass::Data)),
            ("GET", "/v1/events", &[host, known, key, ours], Ok(Pass::Data)),
            ("POST", "/v1/capture", &[host, known, key], Err(WRONG_ORIGIN)),
            ("POST", "/v1/capture", &[host, known, key, same], Err(WRONG_ORIGIN)),
            ("POST", "/v1/capture", &[host, known, key, other], Err(WRONG_ORIGIN)),
            ("POST", "/v1/capture", &[host, known, key, ("origin", "null")], Err(WRONG_ORIGIN)),
            ("POST", "/v1/capture", &[host, known, key, ours, ours], Err(WRONG_ORIGIN)),
            ("POST", "/v1/capture", &[host, known, key, ours, site], Err(WRONG_ORIGIN)),
            ("POST", "/v1/capture", &[host, known, key, ours, same], Ok(Pass::Data)),
        ] {
            assert_eq!(judge(&gate, method, path, headers), expected, "{method} {path} {headers:?}");
        }
    }
}
