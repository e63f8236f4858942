//! Rules of ours in others' firewalls, which let the guests through.
//!
//! Theory of operation. A firewall that has a place for rules of others, as Docker and firewalld do, gets them when it
//! is found in the way, as often as that is so: it loses them when it starts anew. Each is remembered before it is put
//! in ([`Ledger`]), so that it is removed at the end, or by the next start after a daemon that was killed.

use std::io;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::blocked::Blocker;
use super::ledger::{Entry, Ledger, User};
use super::nft::output;

/// Programs that change rules, as far as they are run; of each line the first that is there.
const PROGRAMS: [&[&str]; 4] = [
    &["iptables-nft", "iptables"],
    &["ip6tables-nft", "ip6tables"],
    &["iptables-legacy"],
    &["ip6tables-legacy"],
];

/// firewalld's.
const FIREWALLD: &str = "firewall-cmd";

/// The time that a program may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// A rule of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    program: &'static str,
    /// The option of iptables that the device is matched by.
    way: &'static str,
    device: String,
}

/// The use of a rule.
#[derive(Debug, Clone, Copy)]
enum Verb {
    Look,
    Put,
    Remove,
}

impl Rule {
    fn arguments(&self, verb: Verb) -> Vec<String> {
        let Rule { program, way, device } = self;
        if *program == FIREWALLD {
            let word = match verb {
                Verb::Look => "query",
                Verb::Put => "add",
                Verb::Remove => "remove",
            };
            return vec!["--zone=trusted".to_owned(), format!("--{word}-interface={device}")];
        }
        let word = match verb {
            Verb::Look => "-C",
            Verb::Put => "-I",
            Verb::Remove => "-D",
        };
        // Others change rules too, and one waits for the other.
        ["-w", "3", word, "DOCKER-USER", way, device, "-j", "ACCEPT"].map(str::to_owned).to_vec()
    }

    /// Puts the rule in, unless it is there.
    async fn put(&self) -> io::Result<()> {
        if run(self.program, &self.arguments(Verb::Look)).await.is_ok() {
            return Ok(());
        }
        run(self.program, &self.arguments(Verb::Put)).await
    }

    /// Removes the rule, if it is there.
    fn remove(&self) {
        let mut command = Command::new(self.program);
        command.args(self.arguments(Verb::Remove));
        if let Err(error) = finish(command) {
            tracing::debug!("a rule of {} is not removed: {error}", self.program);
        }
    }
}

async fn run(program: &str, arguments: &[String]) -> io::Result<()> {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    output(program, &arguments).await.map(drop)
}

/// Runs a program to its end, where nothing else can be waited for.
fn finish(mut command: Command) -> io::Result<()> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let end = Instant::now() + PATIENCE;
    while child.try_wait()?.is_none() {
        if Instant::now() >= end {
            let _ = child.kill();
            let _ = child.wait();
            return Err(io::ErrorKind::TimedOut.into());
        }
        sleep(Duration::from_millis(2));
    }
    Ok(())
}

/// A rule, and the user that needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Placed {
    rule: Rule,
    user: User,
}

impl Entry for Placed {
    fn parse(line: &str) -> Option<Placed> {
        let mut fields = line.split(' ');
        let (program, way, device) = (fields.next()?, fields.next()?, fields.next()?);
        let known = PROGRAMS.iter().copied().flatten().chain([&FIREWALLD]);
        let program = known.copied().find(|known| *known == program)?;
        let way = ["-i", "-o"].into_iter().find(|known| *known == way)?;
        let user = User::parse(fields)?;
        Some(Placed { rule: Rule { program, way, device: device.to_owned() }, user })
    }

    fn emit(&self) -> String {
        let Placed { rule: Rule { program, way, device }, user } = self;
        format!("{program} {way} {device} {user}")
    }
}

/// The rules of a network. Dropped, they are removed.
pub(super) struct Integration {
    ledger: Ledger,
    device: String,
}

impl Integration {
    /// Removes what killed daemons left, and begins with nothing.
    pub(super) fn begin(network: &str, device: &str) -> Result<Integration, String> {
        let ledger = Ledger::new("firewall", network)?;
        let integration = Integration { ledger, device: device.to_owned() };
        integration.remove(|user, other| other == user || !other.is_alive())?;
        Ok(integration)
    }

    /// Has a firewall that is in the way let the guests through. False if it has no place for that.
    ///
    /// # Errors
    /// The program that does it failed, or is not there.
    pub(super) async fn cure(&self, blocker: &Blocker) -> Result<bool, String> {
        let ways: (&[&'static str], &[&'static str]) = match blocker.owner.as_str() {
            "docker" => {
                let place = usize::from(blocker.v6) + 2 * usize::from(blocker.legacy);
                (PROGRAMS[place], &["-i", "-o"])
            }
            // An interface in a zone is for both.
            "firewalld" => (&[FIREWALLD], &["-i"]),
            _ => return Ok(false),
        };
        let (programs, ways) = ways;
        for way in ways {
            self.put(programs, way).await?;
        }
        Ok(true)
    }

    async fn put(&self, programs: &[&'static str], way: &'static str) -> Result<(), String> {
        for (place, program) in programs.iter().enumerate() {
            let rule = Rule { program, way, device: self.device.clone() };
            self.ledger.change(|entries, user| {
                let placed = Placed { rule: rule.clone(), user: user.clone() };
                if !entries.contains(&placed) {
                    entries.push(placed);
                }
                Ok(())
            })?;
            match rule.put().await {
                Err(error) if error.kind() == io::ErrorKind::NotFound && place + 1 < programs.len() => {}
                result => return result.map_err(|error| format!("{program}: {error}")),
            }
        }
        Ok(())
    }

    /// Removes the rules that there are.
    pub(super) fn undo(&self) -> Result<(), String> {
        self.remove(|user, other| other == user)
    }

    fn remove(&self, is_over: impl Fn(&User, &User) -> bool) -> Result<(), String> {
        self.ledger.change(|entries: &mut Vec<Placed>, user| {
            entries.retain(|placed| {
                let is_over = is_over(user, &placed.user);
                if is_over {
                    placed.rule.remove();
                }
                !is_over
            });
            Ok(())
        })
    }
}

impl Drop for Integration {
    fn drop(&mut self) {
        if let Err(error) = self.undo() {
            tracing::warn!(network = %self.ledger.user.network, "rules in other firewalls are not removed: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(program: &'static str) -> Rule {
        Rule { program, way: "-o", device: "vmu-lab".to_owned() }
    }

    #[test]
    fn rules_are_put_in_found_and_removed() {
        let words = |program, verb| rule(program).arguments(verb).join(" ");
        assert_eq!(words("iptables", Verb::Look), "-w 3 -C DOCKER-USER -o vmu-lab -j ACCEPT");
        assert_eq!(words("ip6tables-nft", Verb::Put), "-w 3 -I DOCKER-USER -o vmu-lab -j ACCEPT");
        assert_eq!(words("iptables", Verb::Remove), "-w 3 -D DOCKER-USER -o vmu-lab -j ACCEPT");
        assert_eq!(words(FIREWALLD, Verb::Look), "--zone=trusted --query-interface=vmu-lab");
        assert_eq!(words(FIREWALLD, Verb::Put), "--zone=trusted --add-interface=vmu-lab");
        assert_eq!(words(FIREWALLD, Verb::Remove), "--zone=trusted --remove-interface=vmu-lab");
    }

    #[test]
    fn lines_are_read_as_they_are_written_and_name_known_programs_only() {
        let user = User { process: 77, started: 1, network: "lab".to_owned() };
        for program in ["iptables-nft", "ip6tables", "iptables-legacy", FIREWALLD] {
            let placed = Placed { rule: rule(program), user: user.clone() };
            assert_eq!(Placed::parse(&placed.emit()), Some(placed), "{program}");
        }
        for bad in ["", "iptables -i vmu-lab", "/bin/sh -i vmu-lab 77 1 lab", "iptables -c vmu-lab 77 1 lab"]
        {
            assert_eq!(Placed::parse(bad), None, "{bad}");
        }
    }
}
