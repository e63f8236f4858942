//! The clients of docs/api.md, taken from there and run.

#[path = "support/mod.rs"]
mod support;

use std::fs;
use std::path::Path;
use std::process::Command;

use testbed::require::{optional, tool};
use testbed::{require, run};

use support::{Daemon, PATIENCE};

const CONFIG: &str = "[network.lab.port.web]\nstream = { listen = \"web.sock\" }\n\
    [network.lab.port.db]\nstream = { listen = \"db.sock\" }\n";

/// The program of the reference in this language.
fn program(language: &str) -> String {
    let reference = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/api.md");
    let reference = fs::read_to_string(reference).expect("the reference");
    let (_, behind) = reference.split_once(&format!("```{language}\n")).expect("a program");
    behind.split_once("```").expect("the program's end").0.to_owned()
}

/// Runs a program of the reference as this file, by this command.
#[track_caller]
fn try_client(language: &str, file: &str, mut command: Command) {
    let daemon = Daemon::start(CONFIG);
    let file = daemon.path(file);
    fs::write(&file, program(language)).expect("our own directory");
    command.arg(&file).env("VMLAN_CONTROL", daemon.control()).current_dir(daemon.path(""));

    let output = run(command, PATIENCE * 6).expect_success();

    assert_eq!(output.stdout, "lab/db waiting\nlab/web waiting\n", "{}", output.stderr);
    assert!(
        output.stderr.contains("unknown_network: there is no network no-such-network"),
        "{}",
        output.stderr
    );
}

#[test]
fn the_client_in_python_works() {
    require!(tool("python3"));
    try_client("python", "client.py", Command::new("python3"));
}

#[test]
fn the_client_in_go_works() {
    if !optional("api_clients::the_client_in_go_works", &tool("go")) {
        return;
    }
    let cache = tempfile::tempdir().expect("a directory");
    let mut go = Command::new("go");
    go.arg("run").env("GOCACHE", cache.path()).env("GOPATH", cache.path().join("path"));
    try_client("go", "client.go", go);
}
