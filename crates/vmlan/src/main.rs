#![forbid(unsafe_code)]
//! `vmlan`: runs the daemon, or speaks to the one that runs. Maps errors to exit codes and does nothing else.

mod args;
mod capture;
mod client;
mod command;
#[cfg(feature = "demo")]
mod demo;
mod doctor;
mod host;
mod mark;
mod names;
mod output;
mod progress;
mod signals;
mod support;
mod table;
mod top;
mod tunnel;
mod up;
mod version;
mod vm;
mod watch;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use command::Failure;

/// The variable by which a shell asks for completions.
pub const COMPLETE: &str = "VMLAN_COMPLETE";

/// Tells what the arguments ask for by themselves, help and version, or what is wrong with them.
fn told_by_arguments(error: &clap::Error) -> ExitCode {
    // What is behind `--` is another program's.
    let wants_json =
        std::env::args_os().take_while(|argument| argument != "--").any(|argument| argument == "--json");
    if wants_json && error.kind() == clap::error::ErrorKind::DisplayVersion {
        return match output::print_json(&version::json()) {
            Ok(()) | Err(Failure::OutputClosed) => ExitCode::SUCCESS,
            Err(_) => ExitCode::from(1),
        };
    }
    if wants_json && error.use_stderr() {
        let message = error.to_string();
        let message = message.strip_prefix("error: ").unwrap_or(&message).trim_end();
        output::tell_json(&vmlan_api::Error::new(vmlan_api::ErrorCode::BadRequest, message));
        return ExitCode::from(2);
    }
    error.exit()
}

fn main() -> ExitCode {
    clap_complete::CompleteEnv::with_factory(args::Arguments::command).var(COMPLETE).complete();
    let arguments = match args::Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return told_by_arguments(&error),
    };
    let json = arguments.json;
    // The daemon ends although nobody reads what it says.
    let tell = match arguments.command {
        args::Command::Run { .. } | args::Command::Up { .. } => output::tell_in_passing,
        _ => output::tell,
    };
    match command::run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads our output has seen enough.
        Err(Failure::OutputClosed) => ExitCode::SUCCESS,
        Err(Failure::Told) => ExitCode::from(1),
        Err(Failure::Exited(code)) => ExitCode::from(code),
        Err(Failure::Failed(error)) if json => {
            output::tell_json(&output::error_for_programs(&error));
            ExitCode::from(1)
        }
        Err(Failure::Usage(message)) if json => {
            output::tell_json(&vmlan_api::Error::new(vmlan_api::ErrorCode::BadRequest, message));
            ExitCode::from(2)
        }
        Err(Failure::Failed(error)) => {
            tell(&format!("error: {}", output::error_text(&error)));
            ExitCode::from(1)
        }
        Err(Failure::Usage(message)) => {
            tell(&format!("error: {message}\n\nFor more information, try '--help'."));
            ExitCode::from(2)
        }
    }
}
