//! The codes of errors, each with its status, its cause and its remedy.

use serde::{Deserialize, Serialize};

/// Declares the codes once, with their names, statuses and explanations. The explanations are the documents' and
/// `vmlan explain`'s; a page in them is named by its path in the tree.
macro_rules! codes {
    ($($variant:ident, $name:literal, $status:literal, $cause:literal, $remedy:literal;)+) => {
        /// The kind of an error, for programs.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[cfg_attr(test, derive(schemars::JsonSchema))]
        #[non_exhaustive]
        pub enum ErrorCode {
            $(#[doc = $cause] #[serde(rename = $name)] $variant,)+
            /// A code that this version of the types does not know.
            #[serde(rename = "other", other)]
            #[cfg_attr(test, schemars(skip))]
            Other,
        }

        impl ErrorCode {
            /// Every code that a daemon of this version answers with.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The stable name, in snake case.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ Self::Other => "other" }
            }

            /// The status of HTTP that an answer with this code has.
            pub const fn status(self) -> u16 {
                match self {
                    $(Self::$variant => $status,)+
                    // The request is well-formed, its configuration is not.
                    Self::Other => 422,
                }
            }

            /// The cause of the error, in a sentence or two.
            pub const fn cause(self) -> &'static str {
                match self {
                    $(Self::$variant => $cause,)+
                    Self::Other => "The daemon is newer than the program that shows its error.",
                }
            }

            /// The remedy.
            pub const fn remedy(self) -> &'static str {
                match self {
                    $(Self::$variant => $remedy,)+
                    Self::Other => "Read the message, or use a program of the daemon's version.",
                }
            }
        }
    };
}

codes! {
    BadRequest, "bad_request", 400,
        "The request is no well-formed HTTP for this interface, or its query has a member that the path does not \
         take.",
        "Compare it with the paths in docs/api.md; `field` names the member.";
    NotFound, "not_found", 404,
        "There is no such path, capture, rule, uplink, lease, flow or forward; or `vmlan explain` knows no such word.",
        "docs/api.md lists the paths; the list commands, as `vmlan filter list`, `vmlan leases` and `vmlan flows`, \
         have the numbers.";
    MethodNotAllowed, "method_not_allowed", 405,
        "The path does not take this method.",
        "docs/api.md lists each path with its methods.";
    TooLarge, "too_large", 413,
        "The body is longer than 64 KiB; of a configuration and a capture's request, than 1 MiB.",
        "Send less.";
    Timeout, "timeout", 408,
        "The body did not arrive in 10 seconds.",
        "Send it at once, with its right length.";
    BadJson, "bad_json", 400,
        "The body is no JSON, or a member stands twice in an object.",
        "The message has line and column; `field` names the member.";
    TooDeep, "too_deep", 400,
        "The body has more than 32 levels of nesting.",
        "Send it flatter: no configuration needs that many.";
    UnknownNetwork, "unknown_network", 404,
        "There is no network of that name.",
        "The message lists those that there are.";
    UnknownPort, "unknown_port", 404,
        "There is no port of that name in the network.",
        "The message lists those that there are.";
    NetworkExists, "network_exists", 409,
        "A network of that name is there already.",
        "Choose another name, or remove the network with `vmlan network remove` first.";
    PortExists, "port_exists", 409,
        "A port of that name is there already.",
        "Choose another name, remove the port with `vmlan port remove`, or change it with `PATCH`.";
    NotSetUp, "not_set_up", 503,
        "The change was made, but what it asks for does not work now. It stays, and is tried again.",
        "The message says what is missing; provide it, or remove the port again.";
    NoConfigFile, "no_config_file", 409,
        "The daemon was started without a configuration file, so it has none to read again.",
        "Name a file: `vmlan apply FILE`.";
    Unavailable, "unavailable", 503,
        "The daemon is ending or does not answer, an uplink does not run, or all places, or all of this user, are \
         taken.",
        "Try it again; end event streams and captures that nobody reads; `[limits.user]` in \
         docs/configuration.md#limitsuser has the bounds.";
    Internal, "internal", 500,
        "A fault of the daemon itself.",
        "Report it with the log and `vmlan support`: docs/troubleshooting.md#a-bug-report.";
    InvalidConfig, "invalid_config", 422,
        "The configuration has several faults.",
        "`details` lists each with its own code, place and message; `vmlan check FILE` prints all of them.";
    UnreadableFile, "unreadable_file", 422,
        "The configuration file cannot be read.",
        "Correct its path, or its permissions for the user that runs vmlan.";
    Syntax, "syntax", 422,
        "The text is no TOML.",
        "The message has the line; `vmlan check FILE` shows it.";
    UnknownKey, "unknown_key", 422,
        "There is no such key in this table.",
        "The message suggests one; docs/configuration.md lists all keys.";
    WrongType, "wrong_type", 422,
        "The value is of another type than the key takes.",
        "The message says which type it takes.";
    MissingKey, "missing_key", 422,
        "A key that has to be there is missing.",
        "Add what the message names.";
    Conflict, "conflict", 422,
        "Keys that exclude each other are both there. From `vmlan check --here`: a right or a name that this \
         machine does not give.",
        "Keep one of them; do as the message says.";
    BadName, "bad_name", 422,
        "The name of a network or port breaks the rules for names.",
        "Write 1 to 32 of `a-z`, `A-Z`, `0-9`, `-` and `_`, beginning with a letter or digit.";
    OutOfRange, "out_of_range", 422,
        "The number is outside its range.",
        "The message has the range.";
    BadMac, "bad_mac", 422,
        "The text is no MAC address, or it is zero or a group's.",
        "Write it as in `52:54:00:12:34:56`; the first octet is even.";
    DuplicateMac, "duplicate_mac", 422,
        "Two ports of a network, or two entries of its table, have one MAC address.",
        "Give one of them another address; the message names the first.";
    NoAttachment, "no_attachment", 422,
        "The port has none of the tables that say what is attached to it, as `tap` or `stream`.",
        "Add one of those that the message lists.";
    SeveralAttachments, "several_attachments", 422,
        "The port has several of the tables that say what is attached to it.",
        "Keep one, and make a port of its own for each other.";
    DuplicateAttachment, "duplicate_attachment", 422,
        "Two ports claim one device, socket, directory or descriptor, in any network.",
        "Give this port another one; the message names the other port.";
    BadDeviceName, "bad_device_name", 422,
        "The kernel takes no such device name. From `vmlan check --here`: there is no such interface.",
        "Write at most 15 characters, without spaces and `/`; `ip link` lists the interfaces.";
    BadPath, "bad_path", 422,
        "The path is relative where it must be absolute, too long, or no place for a socket.",
        "Write an absolute path of at most 107 octets (macOS: 103), in a directory that the daemon's user may write.";
    BadAddress, "bad_address", 422,
        "The text is no network address. From `vmlan check --here`: the address is not free.",
        "Write a path, or an address as in `127.0.0.1:7000` or `[::1]:7000`.";
    UnknownUser, "unknown_user", 422,
        "The user of `owner`, or the group of `group`, does not exist.",
        "Write the name or number of one that does: `getent passwd`, `getent group`.";
    MissingProgram, "missing_program", 422,
        "A program to run is missing or cannot be executed.",
        "Write the path of `setup` or `terminate` absolute, and make the file executable.";
    BadFilter, "bad_filter", 422,
        "The filter is no expression of tcpdump's, or no program as `tcpdump -ddd` prints it.",
        "Try it with `tcpdump -ddd -y EN10MB EXPRESSION`; without the feature `libpcap`, tcpdump has to be \
         installed.";
}
