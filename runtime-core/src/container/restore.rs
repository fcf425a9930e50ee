//! Bringing a container back from disk. Everything around its processes is made as for a new one; the processes, and what
//! is mounted inside, are CRIU's.
//!
//! SECURITY: an image is the memory and the privileges of processes: who restores it trusts it, as with every runtime.
//! Nothing of it is taken for a specification: mounts, namespaces, cgroup and hooks are those of `config.json`.

use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, MoveMountFlags, UnmountFlags, mount_change, move_mount, unmount};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tare_plan::Plan;

use super::checkpoint::{config_file, folder};
use super::create::{Ground, Undo, decide, keep_spec, lay_ground, refuse_existing};
use super::external::{DESCRIPTORS, joined_by_criu, left_alone, mounts_to_restore, refuse_id_maps};
use super::{Container, Create};
use crate::criu::log::quote;
use crate::criu::options::{Frame, Restore as Asked, restore};
use crate::criu::session::{Event, Home, Notice, Place, run};
use crate::criu::{CriuOptions, Utf8 as _};
use crate::prepare::{Prepared, Streams, clone_of};
use crate::spawn::{Stand, spawn};
use crate::{Error, ExitStatus, Kind, Process, hooks, lower};

const LOG: &str = "restore.log";
/// Where the root file system is mounted for CRIU, below the state folder, as runc does.
const ROOT: &str = "criu-root";
const NEWTIME: u32 = 0x80;
/// More than any list of three names.
const LIMIT: u64 = 1 << 16;

/// What [`Container::restore`] is asked for.
#[derive(Debug)]
pub struct Restore {
    /// The container, as if it were new. Its gate does not count, since it goes on at once.
    pub create: Create,
    /// The folder of the image.
    pub images: PathBuf,
    /// The folder of CRIU's log and statistics; the image's where it is not named.
    pub work: Option<PathBuf>,
    /// Another profile for its processes: `apparmor:name` or `selinux:label`.
    pub lsm_profile: Option<String>,
    /// Another SELinux context for its mounts.
    pub lsm_mount_context: Option<String>,
    /// Everything else.
    pub options: CriuOptions,
}

/// A container whose processes are still on disk, with everything else of it in place. Dropped, it is taken away.
#[derive(Debug)]
pub struct Restoring {
    request: Restore,
    images: OwnedFd,
    /// What init had as 0, 1 and 2.
    names: Vec<String>,
    ground: Ground,
}

impl Container {
    /// Makes the container and brings its processes back, which run on.
    ///
    /// # Errors
    /// As [`Restoring::prepare`] and [`Restoring::bring_back`].
    pub fn restore(request: Restore) -> Result<(Self, Process), Error> {
        Restoring::prepare(request)?.bring_back()
    }
}

impl Restoring {
    /// Makes everything but the processes: from here on the rootfs may be changed to what it was when they were written.
    ///
    /// # Errors
    /// As [`Container::create`]; [`Kind::NotFound`] without an image, [`Kind::Unsupported`] without CRIU. Whatever was
    /// half-made has been undone.
    pub fn prepare(mut request: Restore) -> Result<Self, Error> {
        crate::criu::program()?;
        refuse(&request.create)?;
        let images = open_images(&request.images)?;
        let names = read_descriptors(&images, &request.images)?;
        refuse_existing(&request.create.state)?;
        let plan = decide(&request.create)?;
        let ground = lay_ground(&mut request.create, plan)?;
        refuse_id_maps(&ground.plan)?;
        keep_spec(&request.create)?;
        Ok(Self { request, images, names, ground })
    }

    /// Takes everything away again.
    ///
    /// # Errors
    /// What could not be taken away.
    pub fn give_up(self) -> Result<(), Error> {
        self.ground.undo.now()
    }

    /// Brings the processes back, which run on.
    ///
    /// # Errors
    /// What CRIU could not restore, in the words of its log. Everything has then been undone.
    pub fn bring_back(self) -> Result<(Container, Process), Error> {
        let Self { request, images, names, ground: Ground { plan, mut undo, mut prepared } } = self;
        make_mount_points(&plan, &prepared)?;
        let mounts = undo.record.rootfs_mounts.clone();
        let place = request.create.state.join(ROOT);
        undo.record.rootfs_mounts.push(place.clone());
        undo.record.write(&request.create.state)?;
        let image = Image { images: &images, names: &names, cgroups: &undo.record.cgroup.paths() };
        let restored = bring_back(&request, &plan, &prepared, &image, &mut undo).or_else(|error| {
            // CRIU has not begun.
            prepared.entrance.after_birth(error)?;
            bring_back(&request, &plan, &prepared, &image, &mut undo)
        })?;
        // Should it be there still, it stays on record: a state folder that is removed must not reach the rootfs.
        if !place.exists() {
            undo.record.rootfs_mounts = mounts;
        }
        if has_time_namespace(restored.pid()) {
            undo.record.own_namespaces |= NEWTIME;
        }
        Container::settle(&request.create, plan, undo, restored, None)
    }
}

/// What a restored container cannot have.
fn refuse(create: &Create) -> Result<(), Error> {
    let unsupported = |what: &str| Err(Error::new(Kind::Unsupported, format!("{what} of a restored container")));
    match create {
        Create { preserve_fds: 1.., .. } => unsupported("preserved descriptors"),
        Create { die_with_caller: true, .. } => unsupported("dying with the caller"),
        _ => Ok(()),
    }
}

fn open_images(path: &Path) -> Result<OwnedFd, Error> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| {
        let error = Error::system(format!("open image {}", path.display()), errno);
        if errno == Errno::NOENT { Error::new(Kind::NotFound, error.to_string()) } else { error }
    })
}

/// What init had as 0, 1 and 2 when it was written.
fn read_descriptors(images: &OwnedFd, path: &Path) -> Result<Vec<String>, Error> {
    use std::io::Read as _;
    let what = path.join(DESCRIPTORS);
    // SECURITY: no link of the image's leads out of it (CVE-2026-53489).
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = openat2(images, DESCRIPTORS, flags, Mode::empty(), resolve);
    let file = opened.map_err(|errno| match errno {
        Errno::NOENT => Error::new(Kind::NotFound, format!("{} not found: not a checkpoint", what.display())),
        errno => Error::system(format!("open {}", what.display()), errno),
    })?;
    let mut text = Vec::new();
    let read = std::fs::File::from(file).take(LIMIT).read_to_end(&mut text);
    read.map_err(|error| Error::io(format!("read {}", what.display()), &error))?;
    serde_json::from_slice(&text).map_err(|error| Error::new(Kind::Invalid, format!("{}: {error}", what.display())))
}

/// A fresh rootfs has none of the mount points that the container had.
fn make_mount_points(plan: &Plan, prepared: &Prepared) -> Result<(), Error> {
    let script = lower::mount_points(plan, prepared);
    let mut newborn = spawn(script)?;
    match newborn.listen()? {
        Stand::Executed => {}
        Stand::Waiting(point) => {
            return Err(Error::new(Kind::System, format!("the stub waits at unknown point {point}")));
        }
    }
    match newborn.keep()?.wait()? {
        ExitStatus::Code(0) => Ok(()),
        status => Err(Error::new(Kind::System, format!("making mount points ended with {status}"))),
    }
}

/// The root file system at a second place, for as long as this is: CRIU wants a mount point whose parent is in plain
/// sight. The place is in the record, should this process die before it is gone.
struct Root(PathBuf);

impl Root {
    fn attach(rootfs: &Path, place: PathBuf) -> Result<Self, Error> {
        let failed = |errno| Error::system(format!("attach rootfs on {}", place.display()), errno);
        let tree = clone_of(rootfs)?;
        // SECURITY: cut loose first, or what is mounted below it by CRIU would appear in the rootfs of the host.
        let change = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
        match rustix::fs::mkdir(&place, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(failed(errno)),
        }
        let root = Self(place.clone());
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        move_mount(&tree, "", rustix::fs::CWD, &place, flags).map_err(failed)?;
        mount_change(&place, change).map_err(failed)?;
        Ok(root)
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        // Should either fail, deleting the container does it again.
        let _ = unmount(&self.0, UnmountFlags::NOFOLLOW | UnmountFlags::DETACH);
        let _ = rustix::fs::rmdir(&self.0);
    }
}

/// What is restored, and where to.
struct Image<'a> {
    images: &'a OwnedFd,
    /// What init had as 0, 1 and 2.
    names: &'a [String],
    /// Controllers, and the container's path in them.
    cgroups: &'a [(String, String)],
}

fn bring_back(
    request: &Restore,
    plan: &Plan,
    prepared: &Prepared,
    image: &Image<'_>,
    undo: &mut Undo,
) -> Result<Process, Error> {
    let work = request.work.as_deref().map(folder).transpose()?;
    let root = Root::attach(&plan.rootfs.path, request.create.state.join(ROOT))?;
    let external = mounts_to_restore(plan)?;
    let (join, kept) = namespaces(plan, prepared)?;
    let inherit: Vec<_> = streams(&prepared.streams, image.names).chain(kept).collect();
    let numbers: Vec<_> = inherit.iter().map(|(name, fd)| (name.clone(), fd.as_raw_fd().unsigned_abs())).collect();
    let config = config_file(&plan.annotations);
    let frame = Frame {
        options: &request.options,
        images: image.images.as_raw_fd().unsigned_abs(),
        work: work.as_ref().map(|fd| fd.as_raw_fd().unsigned_abs()),
        log: LOG,
        root: root.0.utf8()?,
        config_file: config.as_deref(),
        external: &external,
    };
    let asked = Asked {
        cgroups: image.cgroups,
        inherit: &numbers,
        join: &join,
        lsm_profile: request.lsm_profile.as_deref(),
        lsm_mount_context: request.lsm_mount_context.as_deref(),
    };
    let keyring = super::anatomy::keyring(&request.create.id).filter(|_| !request.create.no_new_keyring);
    let place = Place::Home(Home { entrance: &prepared.entrance, keyring: keyring.as_deref() });
    let mut raised = Raised::default();
    let fds: Vec<_> = inherit.iter().map(|(_, fd)| fd.as_fd()).collect();
    let ended = run(&restore(&frame, &asked), &fds, &place, |event| match event {
        Event::Waits(pid) => undo.start_unit(plan, pid),
        Event::Told(notice) => raised.hear(notice, request, plan),
    });
    let log = request.work.as_deref().unwrap_or(&request.images).join(LOG);
    ended.map_err(|error| error.during("criu restore")).map_err(|error| error.followed_by(quote(&log)))?;
    let process = raised.0.take();
    process.ok_or_else(|| Error::new(Kind::System, "criu has restored something and not said which process it is"))
}

/// What CRIU is bringing back, our child as soon as it is heard of. Dropped, it is killed and reaped.
#[derive(Default)]
struct Raised(Option<Process>);

impl Raised {
    fn hear(&mut self, notice: Notice, request: &Restore, plan: &Plan) -> Result<(), Error> {
        if let (Some(pid), None) = (notice.pid.and_then(Pid::from_raw), &self.0) {
            // It is not reaped by anybody else, so that the number is its own.
            let pidfd = pidfd_open(pid, PidfdFlags::empty());
            let pidfd = pidfd.map_err(|errno| Error::system("open the restored process", errno))?;
            self.0 = Some(Process::new(pid.as_raw_nonzero().get(), pidfd));
        }
        match (notice.script.as_str(), &mut self.0) {
            ("setup-namespaces", Some(process)) => run_hooks(request, plan, process.pid()),
            ("orphan-pts-master", Some(process)) => {
                let missing = || Error::new(Kind::System, "criu has sent no terminal");
                process.put_console(notice.descriptor.ok_or_else(missing)?);
                process.resize(plan.process.terminal)
            }
            _ => Ok(()),
        }
    }
}

impl Drop for Raised {
    fn drop(&mut self) {
        if let Some(process) = self.0.take() {
            process.end();
        }
    }
}

/// Its namespaces are made, and empty: a hook may set up its network. As with runc, these two kinds alone.
fn run_hooks(request: &Restore, plan: &Plan, pid: i32) -> Result<(), Error> {
    let create = &request.create;
    let state = hooks::state(&create.id, "creating", pid, &create.bundle, &plan.annotations);
    let outside = hooks::Place::Host(&create.bundle);
    hooks::run("prestart", &plan.hooks.prestart, &state, outside)?;
    hooks::run("createRuntime", &plan.hooks.create_runtime, &state, outside)
}

/// The streams, under the names of those that init had.
fn streams<'a>(streams: &'a Streams, names: &'a [String]) -> impl Iterator<Item = (String, &'a OwnedFd)> {
    let open: &[OwnedFd] = match streams {
        Streams::Open(open) => open,
        Streams::Terminal => &[],
    };
    let outside = |name: &String| name.starts_with("pipe:[") || name.starts_with("file[");
    names.iter().zip(open).filter(move |(name, _)| outside(name)).map(|(name, fd)| (name.clone(), fd))
}

type Join = Vec<(&'static str, String)>;
type Kept<'a> = Vec<(String, &'a OwnedFd)>;

/// Namespaces to join: by CRIU, and those that it finds as descriptors.
fn namespaces<'a>(plan: &Plan, prepared: &'a Prepared) -> Result<(Join, Kept<'a>), Error> {
    let (mut join, mut kept) = (Vec::new(), Vec::new());
    for (bit, path) in &plan.namespaces.join {
        let opened = prepared.joined.iter().find(|(kind, _)| kind == bit);
        match (left_alone(*bit), opened) {
            (Some((_, name)), Some((_, fd))) => kept.push((name.to_owned(), fd)),
            _ => join.push((joined_by_criu(*bit)?, path.utf8()?.to_owned())),
        }
    }
    Ok((join, kept))
}

/// CRIU keeps clocks going from where they were by a time namespace.
fn has_time_namespace(pid: i32) -> bool {
    let inode = |path: String| rustix::fs::stat(path).map(|found| found.st_ino);
    match (inode(format!("/proc/{pid}/ns/time")), inode("/proc/thread-self/ns/time".into())) {
        (Ok(theirs), Ok(ours)) => theirs != ours,
        _ => false,
    }
}
