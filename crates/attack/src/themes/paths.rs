//! Names in directories that others may write to, and the modes of what is made there.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::net::SocketType;

use crate::attack::{Attack, Card, Field, Held, Stage, Start};
use crate::peers::{Bound, Honest, become_nobody, hears, stream, vde, vde_ask};
use crate::wire::{MacAddr, attacker, framed, noise};

pub(super) const ALL: &[&dyn Attack] = &[&ModeRace, &SendRace, &Removal, &Umask];

const SWITCH: &str = "[network.lab.port.v]\nvde = { directory = \"v\", mode = \"0666\" }\n";
/// How long the races are tried.
const RACE: Duration = Duration::from_secs(3);
/// The same for a moment.
const SHORT_RACE: Duration = Duration::from_millis(500);

fn race(field: &Field) -> Instant {
    Instant::now() + if field.is_short { SHORT_RACE } else { RACE }
}

/// Exchanges two names as often as it can.
fn exchange(one: &Path, other: &Path, until: Instant) {
    while Instant::now() < until {
        for _ in 0..500 {
            let _ = renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE);
        }
    }
}

/// The first socket that the switch made for itself in its directory for the port that `local` gets.
fn join(field: &Field, local: &Path) -> Option<(impl Sized + use<>, PathBuf)> {
    vde_ask(&field.path("v"), local).ok().flatten()
}

/// A name in the switch's directory that is exchanged with a link to a file of root's while the switch sets modes.
struct ModeRace;

impl ModeRace {
    fn secret(field: &Field) -> PathBuf {
        field.path("secret")
    }
}

impl Attack for ModeRace {
    fn card(&self) -> Card {
        Card::new("vde-mode-race", "another user exchanges the switch's sockets with links to a file of root's, to have its mode changed")
            .property()
            .on(Stage::Users)
            .by(2)
            .churning()
    }

    fn config(&self, _: &Field) -> String {
        SWITCH.to_owned()
    }

    fn honest(&self, field: &Field) -> anyhow::Result<Vec<Honest>> {
        fs::write(ModeRace::secret(field), "secret").context("a file")?;
        fs::set_permissions(ModeRace::secret(field), fs::Permissions::from_mode(0o600))
            .context("its mode")?;
        Ok(Vec::new())
    }

    fn attack(&self, field: &Field, number: usize) -> anyhow::Result<Held> {
        become_nobody()?;
        let (until, link) = (race(field), field.path("v/lnk"));
        if number == 0 {
            // The switch gives a port's socket the same name again.
            let first = Bound::new(SocketType::DGRAM, field.temporary(9))?;
            let Some((_, name)) = join(field, &first.path) else { return Ok(Box::new(())) };
            // A directory that others cannot write to is a defence.
            let _ = symlink(ModeRace::secret(field), &link);
            exchange(&link, &name, until);
            return Ok(Box::new(()));
        }
        while Instant::now() < until {
            let local = Bound::new(SocketType::DGRAM, field.temporary(number))?;
            drop(join(field, &local.path));
            // A link in the place of a port's socket would keep the switch from making it anew, and the socket is where
            // the link was.
            for entry in fs::read_dir(field.path("v"))?.flatten() {
                let is_link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
                if is_link != (entry.path() == link) {
                    let _ = fs::remove_file(entry.path());
                }
            }
            let _ = symlink(ModeRace::secret(field), &link);
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(Box::new(()))
    }

    fn after(&self, field: &Field) -> anyhow::Result<()> {
        let mode = fs::metadata(ModeRace::secret(field))?.permissions().mode() & 0o7777;
        if mode != 0o600 {
            field.broken(format!("a file of root's of mode 0600 has mode {mode:04o}"));
        }
        tidy(field)
    }
}

/// Removes what attackers left in the switch's directory.
fn tidy(field: &Field) -> anyhow::Result<()> {
    for entry in fs::read_dir(field.path("v"))?.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_symlink()) {
            let _ = fs::remove_file(entry.path());
        }
    }
    Ok(())
}

/// A client's own socket that is exchanged with a link to a socket that it may not write to.
struct SendRace;

impl SendRace {
    fn victim(field: &Field) -> PathBuf {
        field.path("private/socket")
    }
}

impl Attack for SendRace {
    fn card(&self) -> Card {
        Card::new("vde-send-race", "another user exchanges its own socket with a link to a socket of root's, to have frames sent there")
            .property()
            .on(Stage::Users)
            .by(4)
            .churning()
    }

    fn config(&self, _: &Field) -> String {
        format!("{SWITCH}[network.lab.port.x]\nstream = {{ listen = \"x.sock\" }}\n")
    }

    fn honest(&self, field: &Field) -> anyhow::Result<Vec<Honest>> {
        let directory = field.path("private");
        fs::create_dir(&directory).context("a directory")?;
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o700)).context("its mode")?;
        Ok(Vec::new())
    }

    fn attack(&self, field: &Field, number: usize) -> anyhow::Result<Held> {
        let (own, link) = (field.temporary(20), field.temporary(21));
        match number {
            // Root's socket, which nobody else reaches.
            0 => {
                let socket = UnixDatagram::bind(SendRace::victim(field)).context("a socket")?;
                let until = race(field);
                while Instant::now() < until {
                    if hears(&socket, Duration::from_millis(50), |_| true) {
                        field.broken("a socket in a directory of mode 0700 got a frame");
                        break;
                    }
                }
            }
            // Frames for all.
            1 => {
                let octets = framed(&[noise(MacAddr::BROADCAST, attacker(1))]);
                let guest = stream(&field.path("x.sock"))?;
                let until = race(field);
                while Instant::now() < until {
                    io::Write::write_all(&mut &guest, &octets)?;
                    std::thread::sleep(Duration::from_millis(1));
                }
                return Ok(Box::new(guest));
            }
            2 => {
                become_nobody()?;
                let bound = Bound::new(SocketType::DGRAM, own.clone())?;
                let _ = fs::remove_file(&link);
                symlink(SendRace::victim(field), &link)?;
                exchange(&link, &own, race(field));
                let _ = fs::remove_file(&link);
                drop(bound);
            }
            _ => {
                become_nobody()?;
                let until = race(field);
                while Instant::now() < until {
                    let joined = join(field, &own);
                    std::thread::sleep(Duration::from_millis(10));
                    drop(joined);
                }
            }
        }
        Ok(Box::new(()))
    }
}

/// Names of the switch and of its clients that another user removes.
struct Removal;

impl Attack for Removal {
    fn card(&self) -> Card {
        Card::new("vde-removal", "another user removes everything in a VDE directory that it can")
            .property()
            .on(Stage::Users)
    }

    fn config(&self, _: &Field) -> String {
        SWITCH.to_owned()
    }

    fn honest(&self, field: &Field) -> anyhow::Result<Vec<Honest>> {
        Ok(vec![Honest::vde("a VDE client", vde(&field.path("v"), field.patience)?)])
    }

    fn attack(&self, field: &Field, _: usize) -> anyhow::Result<Held> {
        let list = || -> io::Result<Vec<PathBuf>> {
            fs::read_dir(field.path("v"))?.map(|entry| Ok(entry?.path())).collect()
        };
        let before = list()?;
        become_nobody()?;
        while !field.is_over() {
            for path in &before {
                if fs::remove_file(path).is_ok() {
                    let name = path.file_name().unwrap_or_default().display().to_string();
                    field.broken(format!("another user removed {name}"));
                }
            }
            field.pause(Duration::from_millis(20));
        }
        Ok(Box::new(()))
    }

    fn after(&self, field: &Field) -> anyhow::Result<()> {
        if let Err(error) = vde(&field.path("v"), Duration::from_secs(2)) {
            field.broken(format!("there is no plug to be had afterwards: {error}"));
        }
        Ok(())
    }
}

/// A daemon that inherits a file mode creation mask of 0.
struct Umask;

impl Attack for Umask {
    fn card(&self) -> Card {
        Card::new(
            "umask-0",
            "the daemon is started with umask 0: its sockets are for others nevertheless only as configured",
        )
        .property()
        .started(Start::Umask0)
    }

    fn config(&self, _: &Field) -> String {
        "[network.lab.port.v]\nvde = { directory = \"v\" }\n\
         [network.lab.port.t]\ntunnel = { listen = \"t.sock\", allow = \"10.0.0.0/24\" }\n"
            .to_owned()
    }

    fn attack(&self, field: &Field, _: usize) -> anyhow::Result<Held> {
        let names = ["one.sock", "two.sock", "v/ctl", "t.sock", "control.sock"].map(|name| field.path(name));
        let made = fs::read_dir(field.path("v"))?.flatten().map(|entry| entry.path());
        for path in names.into_iter().chain([field.path("v")]).chain(made) {
            let mode =
                fs::symlink_metadata(&path).with_context(|| path.display().to_string())?.permissions().mode();
            if mode & 0o022 != 0 {
                let name = path.file_name().unwrap_or_default().display().to_string();
                field.broken(format!("{name} has mode {:04o}", mode & 0o7777));
            }
        }
        Ok(Box::new(()))
    }
}
