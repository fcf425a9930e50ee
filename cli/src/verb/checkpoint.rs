//! `checkpoint`: a container on disk. The flags are runc's and crun's; doing it is not there yet, and is refused.

use runtime_core::Status;

use crate::command::{Command, Words};
use crate::failure::{Failure, Outcome};
use crate::flags::{Flag, Given, Order, switch, value};
use crate::session::Session;

/// What `restore` takes, too.
pub(crate) const SHARED: &[Flag] = &[
    value(&["image-path"], "the folder of the images (default: ./checkpoint)"),
    value(&["work-path"], "the folder of CRIU's logs"),
    switch(&["tcp-established"], "allow open TCP connections"),
    switch(&["ext-unix-sk"], "allow Unix sockets connected to the outside"),
    switch(&["shell-job"], "allow a terminal of the caller"),
    switch(&["lazy-pages"], "leave memory behind until it is asked for"),
    switch(&["file-locks"], "allow file locks"),
    value(&["manage-cgroups-mode"], "soft, full, strict or ignore (default: soft)"),
    value(&["empty-ns"], "a namespace whose properties are left out; may be given often"),
    switch(&["auto-dedup"], "keep each page once"),
    value(&["network-lock"], "how the network is locked meanwhile: iptables, nftables or skip"),
];

pub(crate) const COMMAND: Command = Command {
    name: "checkpoint",
    usage: "<container-id>",
    about: "write a running container to disk",
    details: "",
    flags: &[
        SHARED,
        &[
            value(&["parent-path"], "the folder of earlier images, relative to this one"),
            switch(&["leave-running"], "let the container go on"),
            switch(&["tcp-skip-in-flight"], "leave out TCP connections that are being made"),
            switch(&["link-remap"], "allow files that have been deleted and linked again"),
            value(&["status-fd"], "a descriptor to write to when lazy pages are ready"),
            value(&["page-server"], "ADDRESS:PORT of a page server"),
            switch(&["pre-dump"], "write memory only, and let the container go on"),
        ],
    ],
    order: Order::Anywhere,
    words: Words::Exactly(1),
    run,
};

fn run(session: &Session, given: &Given) -> Outcome {
    let status = session.store.open(given.id())?.status()?;
    if !matches!(status, Status::Running | Status::Paused) {
        return Err(Failure::new(format!("Container cannot be checkpointed in {} state", status.word())));
    }
    Err(Failure::new("checkpoint is not supported yet"))
}
