//! The verbs, a file for each (`pause` and `resume` share one): flags, then what is done, then what is said.

pub(crate) mod checkpoint;
pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod events;
pub(crate) mod exec;
pub(crate) mod features;
pub(crate) mod kill;
pub(crate) mod list;
pub(crate) mod pause;
pub(crate) mod plan;
pub(crate) mod ps;
pub(crate) mod restore;
pub(crate) mod run;
pub(crate) mod spec;
pub(crate) mod start;
pub(crate) mod state;
pub(crate) mod update;
