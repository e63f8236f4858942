//! The web page of `[daemon] ui`: who gets in, what it may change, and how it comes and goes with the configuration.
//! The answers of the page's server are tested in its crate, and the page itself in a browser.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use testbed::{wait_for, wait_until};

use super::support::{Daemon, PATIENCE, free_port};

/// The page of a daemon, as a browser has it that opened its link.
struct Page {
    address: String,
    cookie: String,
    key: String,
}

impl Page {
    #[track_caller]
    fn open(daemon: &Daemon) -> Page {
        let link = link(daemon).expect("a link");
        let (address, path) =
            link.strip_prefix("http://").and_then(|link| link.split_once('/')).expect("a link");
        let entered = request(address, &format!("GET /{path}"), &[], "").expect("an answer");
        let line = |name: &str| entered.lines().find_map(|line| line.strip_prefix(name)).expect("a header");
        let cookie = line("set-cookie: ").split(';').next().expect("a cookie").to_owned();
        Page { address: address.to_owned(), cookie, key: line("location: /#key=").to_owned() }
    }

    /// The answer to the page's own request.
    #[track_caller]
    fn ask(&self, line: &str, body: &str) -> String {
        self.ask_from(line, &format!("http://{}", self.address), body)
    }

    #[track_caller]
    fn ask_from(&self, line: &str, origin: &str, body: &str) -> String {
        let headers = [
            format!("Cookie: {}", self.cookie),
            format!("Vmlan-Key: {}", self.key),
            format!("Origin: {origin}"),
        ];
        request(&self.address, line, &headers, body).expect("an answer")
    }
}

/// The link that `vmlan ui --link` prints.
fn link(daemon: &Daemon) -> Option<String> {
    let output = daemon.cli(&["ui", "--link"]);
    output.success().then(|| output.stdout.trim_end().to_owned())
}

/// The answer to a request; `None` when nothing listens there.
fn request(address: &str, line: &str, headers: &[String], body: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    let length = body.len();
    let request = format!(
        "{line} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    Some(answer)
}

/// The status of an answer.
#[track_caller]
fn status(answer: &str) -> &str {
    answer.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)).unwrap_or_else(|| panic!("{answer}"))
}

fn config(port: u16, more: &str) -> String {
    format!(
        "[daemon]\nui = \"127.0.0.1:{port}\"\n{more}\n[network.lab.port.web]\nstream = {{ listen = \"web.sock\" }}\n"
    )
}

#[test]
fn the_link_alone_opens_the_page_which_changes_what_it_may() {
    let port = free_port();
    let daemon = Daemon::start(&config(port, ""));
    let address = format!("127.0.0.1:{port}");
    daemon.wait_for_log(&format!("the web page is at {address}"));
    for path in ["/", "/v1/ports", "/v1/ui", "/?token=00"] {
        assert_eq!(status(&request(&address, &format!("GET {path}"), &[], "").expect("an answer")), "403");
    }
    let page = Page::open(&daemon);
    assert!(!daemon.log().contains(&page.key) && !daemon.log().contains("token="), "{}", daemon.log());
    assert!(page.ask("GET /", "").contains("<title>vmlan</title>"));
    assert!(page.ask("GET /v1/ports", "").contains("\"web\""));
    assert!(
        page.ask("GET /v1/ports", "").to_lowercase().contains("content-security-policy: default-src 'none'")
    );
    // It opens no other page, and answers no other site and no other name.
    assert_eq!(status(&page.ask("GET /v1/ui", "")), "404");
    assert_eq!(status(&page.ask_from("GET /v1/ports", "http://127.0.0.1:1", "")), "403");
    let renamed =
        Page { address: format!("localhost:{port}"), cookie: page.cookie.clone(), key: page.key.clone() };
    assert_eq!(status(&renamed.ask("GET /v1/ports", "")), "403");

    // Without `ui_writes` it shows what a change would do, and no more.
    let wanted = config(port, "").replace("web.sock", "other.sock");
    let wanted = wanted.replace("other.sock", daemon.path("other.sock").to_str().expect("text"));
    let tried = page.ask("POST /ui/apply?dry_run=true", &wanted);
    assert!(status(&tried) == "200" && tried.contains("replace_port"), "{tried}");
    let refused = page.ask("POST /ui/apply", &wanted);
    assert!(status(&refused) == "405" && refused.contains("ui_writes"), "{refused}");

    // Leave to write comes and goes with the configuration, and the page that is open stays so.
    daemon.write_config(&config(port, "ui_writes = true"));
    let applied = daemon.cli(&["apply"]).expect_success();
    assert!(applied.stdout.contains("set_ui"), "{}", applied.stdout);
    let wanted = wanted.replace("[network", "ui_writes = true\n[network");
    let done = page.ask("POST /ui/apply", &wanted);
    assert!(status(&done) == "200" && done.contains("\"done\""), "{done}");
    // All of it leaves its trace.
    daemon.wait_for_log("the web page may change the configuration from now on");
    daemon.wait_for_log("asked by the web page: POST /v1/apply, answered with status 200");
    assert!(daemon.status().listeners.iter().all(|listener| listener.writes), "{:?}", daemon.status());
    let shown = daemon.cli(&["status"]).expect_success().stdout;
    assert!(shown.contains(&format!("{address} (may change the configuration)")), "{shown}");
    wait_until("the port at its new place", PATIENCE, || daemon.path("other.sock").exists());
    daemon.write_config(&config(port, ""));
    daemon.cli(&["apply"]).expect_success();
    assert_eq!(status(&page.ask("POST /ui/apply", &wanted)), "405");
    daemon.wait_for_log("the web page only reads from now on");
    assert_eq!(daemon.log().matches("asked by the web page").count(), 1, "{}", daemon.log());
    daemon.write_config("");
    daemon.cli(&["apply"]).expect_success();
    daemon.wait_for_log(&format!("daemon.ui: no longer served at {address}"));
    daemon.stop();
}

#[test]
fn the_page_comes_goes_and_moves_with_the_configuration() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let busy = taken.local_addr().expect("a bound socket").port();
    let first = free_port();
    let daemon = Daemon::start("");
    let none = daemon.cli(&["ui", "--link"]);
    assert!(!none.success() && none.stderr.contains("the daemon serves no web page"), "{}", none.stderr);
    let apply = |text: &str| {
        daemon.write_config(text);
        daemon.cli(&["apply"])
    };

    apply(&config(first, "")).expect_success();
    let page = Page::open(&daemon);
    let told = daemon.cli(&["status"]).expect_success().stdout;
    assert!(
        told.contains(&format!("127.0.0.1:{first} (only reads); `vmlan ui --link`"))
            && !told.contains("token"),
        "{told}"
    );

    // An address that another program has: it is told by each who may be asked, and served as soon as it can be.
    let failed = apply(&config(busy, ""));
    let told = failed.stdout.clone() + &failed.stderr;
    assert!(!failed.success() && told.contains("daemon.ui: cannot listen at 127.0.0.1:"), "{told}");
    for command in [&["status"][..], &["doctor"], &["ui", "--link"]] {
        let output = daemon.cli(command);
        let told = output.stdout.clone() + &output.stderr;
        assert!(told.contains("daemon.ui: cannot listen at 127.0.0.1:"), "{command:?}: {told}");
    }
    assert_eq!(request(&page.address, "GET /", &[], ""), None);
    drop(taken);
    let moved = wait_for("the page at its new address", PATIENCE, || link(&daemon));
    assert!(moved.contains(&busy.to_string()), "{moved}");
    assert_eq!(daemon.status().listeners[0].reason, None);

    apply("").expect_success();
    assert_eq!(request(&format!("127.0.0.1:{busy}"), "GET /", &[], ""), None);
    assert_eq!(daemon.status().listeners, []);
    daemon.stop();
}

#[test]
fn a_panic_costs_the_page_a_moment_and_keeps_the_link() {
    let port = free_port();
    let daemon = Daemon::start_injecting(&[], &config(port, ""));
    let page = Page::open(&daemon);
    daemon.inject_panic("page-accept");
    // The one that it waits for is served before it comes there.
    assert!(page.ask("GET /", "").contains("<title>vmlan</title>"));
    daemon.wait_panicked("page-accept");
    assert!(page.ask("GET /v1/ports", "").contains("\"web\""));
    assert_eq!(link(&daemon).as_deref().map(|link| link.contains(&page.address)), Some(true));
    daemon.stop();
}

#[test]
fn clients_that_say_nothing_hurt_nobody() {
    let port = free_port();
    let daemon = Daemon::start(&config(port, ""));
    let page = Page::open(&daemon);
    let connect = || TcpStream::connect(&page.address).expect("room in the queue");
    let mut slow: Vec<TcpStream> = (0..100).map(|_| connect()).collect();
    for stream in &mut slow {
        // Those whose place another one has got are closed already.
        let _ = stream.write_all(b"GET / HTTP/1.1\r\nX: ");
    }
    assert!(page.ask("GET /v1/ports", "").contains("\"web\""));
    assert_eq!(daemon.status().ports, 1);
    drop(slow);
    daemon.stop();
}
