//! The web page in a real Chromium: every view, a port that goes and comes, attacks without the token, both colour
//! schemes, phone width, and a network of 512 ports.
//!
//! The steps in the browser are in `page.mjs`, by way of playwright-core, which is installed below Cargo's target
//! directory. With `VMLAN_SCREENSHOTS=DIR` the pictures of the views are written there: docs/ui has what came of it.

#[path = "../support/mod.rs"]
mod support;

mod lab;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::json;
use support::VMLAN;
use testbed::{Process, require, run, wait_for};

use lab::Lab;

/// The version of playwright-core.
const PLAYWRIGHT: &str = "1.65.1";
/// The most that the browser may take.
const LIMIT: Duration = Duration::from_secs(200);

/// The directory with playwright-core in it, which is installed where it is missing.
#[track_caller]
fn playwright() -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("playwright-{PLAYWRIGHT}"));
    let module = directory.join("node_modules/playwright-core");
    if !module.join("package.json").exists() {
        std::fs::create_dir_all(&directory).expect("a directory of our own");
        let mut npm = Command::new("npm");
        npm.args([
            "install",
            "--no-save",
            "--no-package-lock",
            "--no-audit",
            "--no-fund",
            "--ignore-scripts",
        ]);
        npm.arg(format!("playwright-core@{PLAYWRIGHT}")).current_dir(&directory);
        run(npm, LIMIT).expect_success();
    }
    module
}

/// A page's server, and the link that it printed.
struct Ui {
    _process: Process,
    link: String,
}

impl Ui {
    #[track_caller]
    fn start(control: &Path, arguments: &[&str]) -> Ui {
        let mut command = Command::new(VMLAN);
        command.arg("ui").args(arguments).arg("--control").arg(control);
        let process = Process::spawn(command);
        let link = wait_for("the link", support::PATIENCE, || {
            let log = process.log();
            log.lines().find(|line| line.starts_with("http://127.0.0.1:")).map(str::to_owned)
        });
        Ui { _process: process, link }
    }
}

#[test]
fn the_page_shows_and_guards_what_runs() {
    require!(namespaces(), tool("chromium"), tool("node"), tool("npm"));
    let module = playwright();
    let lab = Lab::start();
    let many = lab::many_ports();
    let reading = Ui::start(&lab.daemon.control(), &[]);
    let writing = Ui::start(&lab.daemon.control(), &["--writes"]);
    let crowded = many.cli(&["ui", "--link"]).expect_success().stdout;
    let settings = json!({
        "playwright": module.join("index.mjs"),
        "vmlan": VMLAN,
        "control": lab.daemon.control(),
        "root": rustix::process::geteuid().is_root(),
        "reading": reading.link,
        "writing": writing.link,
        "crowded": crowded.trim_end(),
        "ports": lab::MANY,
        "hostile": lab::HOSTILE,
        "screenshots": std::env::var_os("VMLAN_SCREENSHOTS").map(PathBuf::from),
    });

    let mut node = Command::new("node");
    node.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/privileged_browser/page.mjs"));
    node.env("SETTINGS", settings.to_string());
    let output = run(node, LIMIT).expect_success();

    print!("{}", output.stdout);
    assert!(output.stdout.ends_with("all steps are done\n"), "{}", output.stdout);
    drop((reading, writing));
    lab.stop();
    many.stop();
}
