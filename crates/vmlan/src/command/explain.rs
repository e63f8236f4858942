//! `explain`: the meaning of a word that an error, a counter or doctor has, and the remedy.

use serde::Serialize;
use vmlan_api::{Error, ErrorCode, nearest};
use vmlan_frame::{Direction, DropReason};

use super::Failure;
use crate::args::Output;
use crate::doctor::Subject;
use crate::output::{print, print_json};

/// An explanation.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Explanation {
    /// The word.
    word: &'static str,
    /// The kind of the word, for people.
    kind: String,
    /// The cause of an error, or the case in which a reason is counted.
    meaning: &'static str,
    /// Advice.
    remedy: &'static str,
}

/// The codes of errors, with the one of programs that do not know a code.
fn all_codes() -> impl Iterator<Item = ErrorCode> {
    ErrorCode::ALL.iter().copied().chain([ErrorCode::Other])
}

/// The words that are explained.
pub fn words() -> impl Iterator<Item = &'static str> {
    let codes = all_codes().map(ErrorCode::name);
    let reasons = DropReason::ALL.iter().map(|reason| reason.name());
    codes.chain(reasons).chain(Subject::ALL.iter().map(|subject| subject.name()))
}

/// Prints the explanation of an error's code, a drop reason or a finding of doctor.
pub fn run(word: &str, output: Output) -> Result<(), Failure> {
    let Some(found) = find(word) else {
        let near = nearest(word, words());
        let meant = near.map(|near| format!(", did you mean `{near}`?")).unwrap_or_default();
        let message = format!(
            "no error code, drop reason or finding of doctor is called `{}`{meant}",
            vmlan_api::escaped(word)
        );
        return Err(Failure::Failed(anyhow::Error::new(Error::new(ErrorCode::NotFound, message))));
    };
    if output.json {
        return print_json(&found);
    }
    let Explanation { word, kind, meaning, remedy } = found;
    print(&format!("{word}: {kind}\n\n{meaning}\n\nWhat to do: {remedy}\n"))
}

fn find(word: &str) -> Option<Explanation> {
    let of_code = all_codes().find(|code| code.name() == word).map(|code| Explanation {
        word: code.name(),
        kind: format!("an error code (status {})", code.status()),
        meaning: code.cause(),
        remedy: code.remedy(),
    });
    let of_reason = || {
        DropReason::ALL.iter().find(|reason| reason.name() == word).map(|reason| Explanation {
            word: reason.name(),
            kind: of_reason(*reason).to_owned(),
            meaning: reason.meaning(),
            remedy: reason.remedy(),
        })
    };
    let of_subject = || {
        Subject::ALL.iter().find(|subject| subject.name() == word).map(|subject| Explanation {
            word: subject.name(),
            kind: "a finding of `vmlan doctor`".to_owned(),
            meaning: subject.meaning(),
            remedy: subject.remedy(),
        })
    };
    of_code.or_else(of_reason).or_else(of_subject)
}

fn of_reason(reason: DropReason) -> &'static str {
    match (reason, reason.direction()) {
        (DropReason::NoReceiver, _) => "a counter of frames that the port sent; no drop",
        (_, Direction::Ingress) => "a drop reason of frames that the port sent to the network",
        (_, Direction::Egress) => "a drop reason of copies that were on their way to the port",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_reasons_and_findings_are_found_by_name() {
        let code = find("unknown_key").expect("an explanation");
        assert_eq!(
            (code.kind.as_str(), code.meaning),
            ("an error code (status 422)", ErrorCode::UnknownKey.cause())
        );
        let reason = find("queue_full").expect("an explanation");
        assert_eq!(reason.remedy, DropReason::QueueFull.remedy());
        let finding = find("net_admin").expect("an explanation");
        assert_eq!(finding.meaning, Subject::NetAdmin.meaning());
        assert_eq!(find("queue"), None);
    }

    #[test]
    fn every_word_is_explained_once_and_with_a_remedy() {
        let mut seen = std::collections::BTreeSet::new();
        for word in words() {
            let found = find(word).expect(word);
            assert!(seen.insert(word), "{word} is there twice");
            assert!(found.meaning.ends_with('.') && found.remedy.ends_with('.'), "{word}");
            assert!(found.remedy.split_whitespace().count() > 1, "{word}");
        }
    }
}
