//! Writing a running container to disk, so that it can go on later or elsewhere: what is asked of CRIU, and what is left
//! when it cannot.

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};
use tare_plan::Plan;

use super::external::{DESCRIPTORS, Descriptors, mounts_to_dump, namespaces_to_dump, refuse_id_maps};
use super::{Container, Status, lock};
use crate::criu::log::quote;
use crate::criu::options::{Dump, Errand, Frame, dump, feature_check};
use crate::criu::session::{Event, LAZY, Place, run};
use crate::criu::{CriuOptions, Utf8 as _};
use crate::patience::{LOOKUP, within};
use crate::{Error, Kind};

const LOG: &str = "dump.log";
/// Names another file of settings for CRIU; an empty one: none (runc's and crun's annotation).
const CONFIG_ANNOTATION: &str = "org.criu.config";
/// The settings of runc's users count here, too.
const CONFIG: &str = "/etc/criu/runc.conf";

/// What [`Container::checkpoint`] is asked for.
#[derive(Debug)]
pub struct Checkpoint {
    /// The folder of the image; made where it is absent.
    pub images: PathBuf,
    /// The folder of CRIU's log and statistics; the image's where it is not named.
    pub work: Option<PathBuf>,
    /// The folder of an earlier dump, relative to `images`: only what has changed since is written.
    pub parent: Option<PathBuf>,
    /// How much is written.
    pub extent: Extent,
    /// What becomes of the container.
    pub afterwards: Afterwards,
    /// Where memory is sent instead of to disk: an address and a port.
    pub page_server: Option<(String, u16)>,
    /// Gets a NUL when lazy pages can be asked for.
    pub status: Option<OwnedFd>,
    /// Everything else.
    pub options: CriuOptions,
}

/// How much of a container is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// All of it.
    Whole,
    /// Its memory, ahead of a dump that will name this one as its parent. It runs on.
    Memory,
}

/// What becomes of a container that has been written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Afterwards {
    /// Its processes end.
    Ends,
    /// It runs on.
    RunsOn,
}

impl Container {
    /// Writes the container to disk.
    ///
    /// # Errors
    /// [`Kind::State`] unless it runs or is paused, [`Kind::Unsupported`] without CRIU; else what CRIU could not write,
    /// in the words of its log. The container then runs on, and of its image the log alone is left.
    pub fn checkpoint(&self, request: Checkpoint) -> Result<(), Error> {
        let status = self.status()?;
        if !matches!(status, Status::Running | Status::Paused) {
            return Err(Error::new(
                Kind::State,
                format!("Container cannot be checkpointed in {} state", status.word()),
            ));
        }
        crate::criu::program()?;
        check_parent(&request)?;
        check_features(&request)?;
        let plan = Arc::new(self.plan()?);
        refuse_id_maps(&plan)?;
        let outside = match request.extent {
            Extent::Whole => Some(self.outside(&plan)?),
            Extent::Memory => None,
        };
        let images = Images::open(&request.images)?;
        let work = request.work.as_deref().map(folder).transpose()?;
        let log = request.work.as_deref().unwrap_or(&request.images).join(LOG);
        let written = self.write(&plan, request, &images, (work.as_ref(), outside));
        written.inspect_err(|_| images.clear()).map_err(|error| error.during("criu dump")).map_err(|error| {
            if error.kind() == Kind::Timeout && status == Status::Running {
                // Killed, CRIU cannot do it itself.
                drop(self.cgroup.thaw());
            }
            // What went wrong before CRIU was asked is not in its log.
            match error.kind() {
                Kind::System | Kind::Timeout => error.followed_by(quote(&log)),
                _ => error,
            }
        })
    }

    /// Mounts and streams of the container that are the host's.
    fn outside(&self, plan: &Arc<Plan>) -> Result<(Vec<String>, Descriptors), Error> {
        let (pid, plan) = (self.pid, Arc::clone(plan));
        // SECURITY: the container may have mounted file systems of its own at these places.
        let look = move || Ok((mounts_to_dump(&plan, pid)?, Descriptors::of(pid)?));
        within(LOOKUP, "look at the container's mounts and streams", look)?
    }

    /// `about`: where CRIU works, and what is the host's.
    fn write(
        &self,
        plan: &Plan,
        request: Checkpoint,
        images: &Images,
        about: (Option<&OwnedFd>, Option<(Vec<String>, Descriptors)>),
    ) -> Result<(), Error> {
        let (work, outside) = about;
        let mut external = namespaces_to_dump(plan)?;
        let errand = match outside {
            Some((mounts, descriptors)) => {
                external.extend(mounts);
                external.extend(descriptors.external);
                images.write(DESCRIPTORS, &serde_json::json!(descriptors.names).to_string())?;
                Errand::Dump
            }
            None => Errand::PreDump,
        };
        let rootfs = lock(&self.record).rootfs.clone();
        let config = config_file(&plan.annotations);
        let frame = Frame {
            options: &request.options,
            images: images.number(),
            work: work.map(|fd| fd.as_raw_fd().unsigned_abs()),
            log: LOG,
            root: rootfs.utf8()?,
            config_file: config.as_deref(),
            external: &external,
        };
        let asked = Dump {
            pid: self.pid.unsigned_abs(),
            leave_running: request.afterwards == Afterwards::RunsOn,
            freeze_cgroup: self.cgroup.freezer_directory().map(Path::utf8).transpose()?,
            parent: request.parent.as_deref().map(Path::utf8).transpose()?,
            page_server: request.page_server.as_ref().map(|(address, port)| (address.as_str(), *port)),
        };
        let mut status = request.status;
        let listen = |event: Event| match (event, status.take()) {
            (Event::Told(notice), Some(fd)) if notice.script == LAZY => {
                let written = rustix::io::write(&fd, &[0]);
                written.map(drop).map_err(|errno| Error::system("tell that lazy pages are ready", errno))
            }
            (_, other) => {
                status = other;
                Ok(())
            }
        };
        run(&dump(errand, &frame, &asked), &[], &Place::Here, listen).map(drop)
    }
}

/// CRIU finds the earlier image from the folder of this one.
fn check_parent(request: &Checkpoint) -> Result<(), Error> {
    let Some(parent) = &request.parent else { return Ok(()) };
    if parent.is_absolute() {
        return Err(Error::new(Kind::Invalid, "--parent-path must be relative"));
    }
    let invalid = |errno| Error::new(Kind::Invalid, Error::system("invalid --parent-path", errno).to_string());
    let found = beside(&request.images, parent).metadata();
    match found.map(|found| found.is_dir()) {
        Ok(true) => Ok(()),
        Ok(false) => Err(invalid(rustix::io::Errno::NOTDIR)),
        Err(error) => Err(invalid(rustix::io::Errno::from_io_error(&error).unwrap_or(rustix::io::Errno::IO))),
    }
}

/// `relative` as seen from `folder`, which need not be there yet: `..` goes back a name, as with runc.
fn beside(folder: &Path, relative: &Path) -> PathBuf {
    relative.components().fold(folder.to_owned(), |mut place, part| {
        if part != Component::ParentDir || place.file_name().is_none() {
            place.push(part);
        } else {
            place.pop();
        }
        place
    })
}

/// Kernels are built without what a pre-dump or lazy pages need; CRIU finds out only after it has stopped the container.
fn check_features(request: &Checkpoint) -> Result<(), Error> {
    let (tracks, lazy) = (request.extent == Extent::Memory, request.options.lazy_pages);
    if !tracks && !lazy {
        return Ok(());
    }
    let has = run(&feature_check(), &[], &Place::Here, |_| Ok(()))?;
    let needed = [("MemTrack", tracks && !has.mem_track), ("LazyPages", lazy && !has.lazy_pages)];
    let missing: Vec<&str> = needed.iter().filter(|(_, missing)| *missing).map(|(name, _)| *name).collect();
    match missing.as_slice() {
        [] => Ok(()),
        missing => Err(Error::new(Kind::Unsupported, format!("criu is missing features: [{}]", missing.join(" ")))),
    }
}

pub(super) fn config_file(annotations: &[(String, String)]) -> Option<String> {
    let named = annotations.iter().find(|(key, _)| key == CONFIG_ANNOTATION).map(|(_, value)| value.clone());
    Some(named.unwrap_or_else(|| CONFIG.into())).filter(|file| !file.is_empty())
}

/// Opens a folder, which is made when it is absent: what is in it is the memory of processes.
pub(super) fn folder(path: &Path) -> Result<OwnedFd, Error> {
    use std::os::unix::fs::DirBuilderExt as _;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|error| Error::io(format!("make {}", path.display()), &error))?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = rustix::fs::open(path, flags, Mode::empty());
    opened.map_err(|errno| Error::system(format!("open {}", path.display()), errno))
}

/// The folder that an image is written to.
struct Images {
    folder: OwnedFd,
    path: PathBuf,
    /// Nothing was in it before.
    fresh: bool,
}

impl Images {
    fn open(path: &Path) -> Result<Self, Error> {
        let folder = folder(path)?;
        let listed = path.read_dir().map_err(|error| Error::io(format!("read {}", path.display()), &error))?;
        Ok(Self { folder, path: path.to_path_buf(), fresh: listed.count() == 0 })
    }

    fn number(&self) -> u32 {
        self.folder.as_raw_fd().unsigned_abs()
    }

    fn write(&self, name: &str, text: &str) -> Result<(), Error> {
        let failed = |errno| Error::system(format!("write {}", self.path.join(name).display()), errno);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.folder, name, flags, Mode::RUSR | Mode::WUSR).map_err(failed)?;
        rustix::io::write(&file, text.as_bytes()).map(drop).map_err(failed)
    }

    /// Half an image is of no use, and nobody should take it for one. What was there before stays.
    fn clear(&self) {
        let Ok(listed) = self.path.read_dir() else { return };
        for entry in listed.flatten().filter(|entry| self.fresh && entry.file_name() != LOG) {
            // The error that brought us here is the one to report.
            drop(std::fs::remove_file(entry.path()));
        }
    }
}
