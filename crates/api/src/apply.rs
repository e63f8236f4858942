//! Requests that change something, and the account of what was done.

use serde::{Deserialize, Serialize};

use crate::Config;

/// The body of `POST /v1/apply`: a configuration, and beside it `dry_run`.
///
/// Unlike in a bare [`Config`], unknown keys are found by the daemon only.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(extend("additionalProperties" = false)))]
pub struct ApplyRequest {
    /// Only tell what would be done.
    #[serde(default)]
    pub dry_run: bool,
    /// The configuration that shall run.
    #[serde(flatten)]
    pub config: Config,
}

/// The body of `POST /v1/reload`: read the daemon's own file again and apply it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ReloadRequest {
    /// Only tell what would be done.
    #[serde(default)]
    pub dry_run: bool,
}

/// The actions that lead from the running to the wanted configuration, done or only planned.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ApplyReport {
    /// True if this was a dry run, so that nothing was done.
    pub dry_run: bool,
    /// The actions in their order; none when the configuration runs already.
    pub actions: Vec<ActionReport>,
    /// Settings that are allowed but hardly meant: after a change of one port or rule, those that it brought about.
    #[serde(default)]
    pub notes: Vec<String>,
}

impl ApplyReport {
    /// How many actions failed.
    pub fn failed(&self) -> usize {
        self.actions.iter().filter(|action| action.outcome == Outcome::Failed).count()
    }
}

/// One action and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ActionReport {
    /// The kind of change.
    pub action: ActionKind,
    /// The network concerned.
    pub network: Option<String>,
    /// The port concerned.
    pub port: Option<String>,
    /// The outcome of the action.
    pub outcome: Outcome,
    /// Cause and cure of a failure, or what else there is to say.
    pub reason: Option<String>,
}

/// A kind of change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ActionKind {
    /// A port goes.
    RemovePort,
    /// A network goes; its ports went before.
    RemoveNetwork,
    /// A network comes.
    AddNetwork,
    /// A network's own settings change.
    ChangeNetwork,
    /// A port's attachment changes: its guest reconnects.
    ReplacePort,
    /// A port's settings change: its guest notices nothing.
    ChangePort,
    /// A port comes.
    AddPort,
    /// A trunk goes: the host's interface is as it was.
    RemoveTrunk,
    /// A trunk of the same interface is set up anew.
    ReplaceTrunk,
    /// A trunk comes.
    AddTrunk,
    /// The number of workers changes, which takes a restart of the daemon.
    SetWorkers,
    /// Workers wait for traffic in another way from now on.
    SetPoll,
    /// Metrics are served at another address from now on, or at none.
    SetMetrics,
    /// The web page is served at another address from now on, or at none, or may change more or less.
    SetUi,
    /// Users may hold another part of what all share from now on.
    SetLimits,
}

impl ActionKind {
    /// The kind as it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RemovePort => "remove_port",
            Self::RemoveNetwork => "remove_network",
            Self::AddNetwork => "add_network",
            Self::ChangeNetwork => "change_network",
            Self::ReplacePort => "replace_port",
            Self::ChangePort => "change_port",
            Self::AddPort => "add_port",
            Self::RemoveTrunk => "remove_trunk",
            Self::ReplaceTrunk => "replace_trunk",
            Self::AddTrunk => "add_trunk",
            Self::SetWorkers => "set_workers",
            Self::SetPoll => "set_poll",
            Self::SetMetrics => "set_metrics",
            Self::SetUi => "set_ui",
            Self::SetLimits => "set_limits",
        }
    }
}

/// The outcome of an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was done.
    Done,
    /// It would be done: a dry run.
    Planned,
    /// It takes effect when the daemon is restarted.
    NeedsRestart,
    /// It was tried and undone; the reason says why.
    Failed,
}

impl Outcome {
    /// The outcome as it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Planned => "planned",
            Self::NeedsRestart => "needs_restart",
            Self::Failed => "failed",
        }
    }
}
