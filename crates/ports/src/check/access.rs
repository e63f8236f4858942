//! The keys that say who may use a Unix socket.

use std::net::SocketAddr;

use vmlan_api::ErrorCode;
use vmlan_drivers::unix::{self, Access};

use super::{Address, Allow, Validator, join, shown};

/// The keys of a port's table about its socket's permissions, as they are written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AccessKeys<'c> {
    pub(crate) mode: &'c Option<String>,
    pub(crate) owner: &'c Option<String>,
    pub(crate) group: &'c Option<String>,
}

impl AccessKeys<'_> {
    /// The names of the keys that are there, in messages; empty without any.
    pub(crate) fn named(self) -> String {
        let keys = [("`mode`", self.mode), ("`owner`", self.owner), ("`group`", self.group)];
        let named: Vec<_> = keys.iter().filter(|(_, value)| value.is_some()).map(|(name, _)| *name).collect();
        named.join(", ")
    }
}

impl Validator {
    /// Checks who may use a socket that we make: our own user where nothing is said.
    pub(crate) fn access(&mut self, path: &str, keys: AccessKeys<'_>) -> Option<Access> {
        let mode = self.mode(path, keys.mode.as_deref());
        let owner_and_group = self.owner_and_group(path, keys.owner.as_deref(), keys.group.as_deref());
        let (bits, (owner, group)) = (mode?, owner_and_group?);
        for (key, id, write, cure) in [("owner", owner, 0o200, "0600"), ("group", group, 0o020, "0660")] {
            if id.is_some() && bits & write == 0 {
                self.note(
                    path,
                    &format!(
                        "`{key}` has no effect with mode {bits:04o}, for a socket takes the right to write; add \
                         `mode = \"{cure}\"`"
                    ),
                );
            }
        }
        Some(Access { mode: unix::mode(bits), owner, group })
    }

    /// Checks who may use a socket of ours at `address`, where that has permissions; notes keys without effect.
    pub(crate) fn access_at(
        &mut self,
        path: &str,
        address: &Address,
        keys: AccessKeys<'_>,
    ) -> Option<Access> {
        if let Address::Inet(_) = address {
            self.no_access(path, keys, "an address of TCP or UDP has no permissions");
        }
        self.access(path, keys)
    }

    /// Notes that keys have no effect, and why.
    pub(crate) fn no_access(&mut self, path: &str, keys: AccessKeys<'_>, why: &str) {
        let named = keys.named();
        if !named.is_empty() {
            let verb = if named.contains(',') { "have" } else { "has" };
            self.note(path, &format!("{named} {verb} no effect here: {why}"));
        }
    }

    /// Notes who reaches an address of ours where guests come by themselves, as far as `allow` lets them.
    pub(super) fn note_reach(&mut self, path: &str, address: SocketAddr, allow: &Allow) {
        if address.ip().to_canonical().is_loopback() {
            let note = format!(
                "every local user can be the guest at {address}; listen at a path, with `mode`, where that matters"
            );
            self.note(path, &note);
        } else if *allow == Allow::default() {
            let note = format!(
                "everybody who reaches this host can be the guest at {address}; name the guests' addresses with `allow`"
            );
            self.note(path, &note);
        }
    }

    /// The numbers of a user and a group under these keys of the table at `path`, as far as they are given.
    pub(crate) fn owner_and_group(
        &mut self,
        path: &str,
        owner: Option<&str>,
        group: Option<&str>,
    ) -> Option<(Option<u32>, Option<u32>)> {
        let owner = owner.map(|text| self.user(&join(path, "owner"), text));
        let group = group.map(|text| self.group(&join(path, "group"), text));
        // The outer `None` is a fault; both are looked at, so that both faults are told.
        let known = |id: Option<Option<u32>>| id.map_or(Some(None), |id| id.map(Some));
        let (owner, group) = (known(owner), known(group));
        Some((owner?, group?))
    }

    /// The number of a user.
    pub(crate) fn user(&mut self, path: &str, text: &str) -> Option<u32> {
        self.id(path, text, "user", |name| {
            Ok(nix::unistd::User::from_name(name)?.map(|user| user.uid.as_raw()))
        })
    }

    /// The number of a group.
    fn group(&mut self, path: &str, text: &str) -> Option<u32> {
        self.id(path, text, "group", |name| {
            Ok(nix::unistd::Group::from_name(name)?.map(|group| group.gid.as_raw()))
        })
    }

    fn id(
        &mut self,
        path: &str,
        text: &str,
        what: &str,
        look_up: fn(&str) -> nix::Result<Option<u32>>,
    ) -> Option<u32> {
        // The highest number means "leave it as it is" to the system.
        if let Some(id) = text.parse().ok().filter(|id| *id != u32::MAX) {
            return Some(id);
        }
        let message = match if text.contains('\0') { Ok(None) } else { look_up(text) } {
            Ok(Some(id)) => return Some(id),
            Ok(None) => format!("there is no {what} `{}`; write the name or number of one", shown(text)),
            Err(error) => format!("{what} `{}` cannot be looked up ({error}); write the number", shown(text)),
        };
        self.refuse(ErrorCode::UnknownUser, path, message)
    }
}
