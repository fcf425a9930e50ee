//! A tree for the rootfs that is made apart, mounted nowhere, by a stub: where ids have to be mapped, which the kernel only
//! allows before a mount can be seen, and where the target lies in an image. The stub has a mount namespace of its own, in
//! which an overlay finds its layers idmapped under their own names; the host's mounts are not touched.

use std::ffi::CString;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use tare_init::script::{Fd, Op, Strings};
use tare_plan::Reach;

use super::options::{Options, PAGE_LIMIT};
use crate::container::RootfsMount;
use crate::lower::tag;
use crate::script::Script;
use crate::spawn::{GATE, Stand, spawn};
use crate::{Error, Kind, id_map};

const AT_RECURSIVE: u32 = 0x8000;
const ATIME: u64 = 0x70;
const MS_PRIVATE: u64 = 1 << 18;
const OPEN_PATH: u64 = libc::O_PATH.unsigned_abs() as u64;

/// The tree of `one`, whose source is `source`; `rootfs` is a folder of the host's to mount on where nobody sees it.
pub(super) fn tree(one: &RootfsMount, source: &str, rootfs: &Path, options: &Options) -> Result<OwnedFd, Error> {
    let users = options.id_map.as_ref().map(|(uids, gids)| id_map::namespace(uids, gids)).transpose()?;
    let mut script = Script::new();
    let users = users.as_ref().map(|users| script.inherit(users.as_fd()));
    let text = |text: &str| CString::new(text).map_err(|_| Error::new(Kind::Invalid, "a NUL byte in a rootfs mount"));
    let words = Words { kind: text(&one.kind)?, source: text(source)?, rootfs: text(&rootfs.to_string_lossy())? };
    alone(&mut script);
    let tree = match (options.bind, users) {
        (Some(reach), _) => bind(&mut script, &words, reach, users),
        (None, Some(users)) if one.kind == "overlay" => {
            layers(&mut script, options, users)?;
            filesystem(&mut script, &words, options)?
        }
        (None, None) if one.kind == "overlay" => filesystem(&mut script, &words, options)?,
        (None, _) => {
            let tree = filesystem(&mut script, &words, options)?;
            map_ids(&mut script, tree, 0, users);
            tree
        }
    };
    set(&mut script, tree, options);
    script.push(Op::Send { fd: tree, tag: tag::TREE });
    script.push(Op::Report { point: GATE });
    let mut newborn = spawn(script)?;
    let stand = newborn.listen()?;
    let tree = newborn.take(tag::TREE)?;
    newborn.keep()?.wait()?;
    if stand == Stand::Executed { Ok(tree) } else { Err(Error::new(Kind::System, "the stub waits for nobody")) }
}

/// What a mount is made of, as the kernel reads it.
struct Words {
    kind: CString,
    source: CString,
    rootfs: CString,
}

fn map_ids(script: &mut Script<'_>, tree: Fd, recursive: u32, users: Option<Fd>) {
    if let Some(users) = users {
        script.what("map the ids of the mount (idmapped mounts need a file system that can)");
        script.push(Op::IdMap { tree, recursive, users });
    }
}

fn bind(script: &mut Script<'_>, words: &Words, reach: Reach, users: Option<Fd>) -> Fd {
    let (flags, recursive) = if reach == Reach::Tree { (AT_RECURSIVE, 1) } else { (0, 0) };
    script.what("clone the tree");
    let into = script.slot();
    script.push(Op::CloneTree { dir: Fd::CWD, path: &words.source, flags, into });
    map_ids(script, Fd::slot(into), recursive, users);
    Fd::slot(into)
}

/// Each layer below, idmapped, over itself. What is written goes above, unmapped, as containerd has it.
fn layers(script: &mut Script<'_>, options: &Options, users: Fd) -> Result<(), Error> {
    let lower = options.parameters.iter().filter_map(|parameter| parameter.strip_prefix("lowerdir="));
    for layer in lower.flat_map(|layers| layers.split(':')).filter(|layer| !layer.is_empty()) {
        script.what(format!("map the ids of layer {layer}"));
        let path = CString::new(layer).map_err(|_| Error::new(Kind::Invalid, "a NUL byte in a layer's name"))?;
        let (tree, place) = (script.slot(), script.slot());
        script.push(Op::CloneTree { dir: Fd::CWD, path: &path, flags: 0, into: tree });
        script.push(Op::IdMap { tree: Fd::slot(tree), recursive: 0, users });
        script.push(Op::Open { dir: Fd::CWD, path: &path, flags: OPEN_PATH, resolve: 0, into: place });
        script.push(Op::Attach { tree: Fd::slot(tree), target: Fd::slot(place) });
        for slot in [tree, place] {
            script.push(Op::Close { fd: Fd::slot(slot) });
            script.free(slot);
        }
    }
    Ok(())
}

/// A mount namespace in which nothing reaches the host.
fn alone(script: &mut Script<'_>) {
    script.what("make a mount namespace for the rootfs");
    script.push(Op::Unshare { kinds: libc::CLONE_NEWNS.cast_unsigned() });
    let root = script.slot();
    script.push(Op::Open { dir: Fd::CWD, path: c"/", flags: OPEN_PATH, resolve: 0, into: root });
    script.push(Op::SetAttr { tree: Fd::slot(root), recursive: 1, set: 0, clear: 0, propagation: MS_PRIVATE });
    script.push(Op::Close { fd: Fd::slot(root) });
    script.free(root);
}

/// A new file system. By mount(2) as long as its page of options is enough: fsconfig(2) takes 255 bytes a value, and the
/// layers of an overlay one by one only since Linux 6.8.
fn filesystem(script: &mut Script<'_>, words: &Words, options: &Options) -> Result<Fd, Error> {
    let nul = || Error::new(Kind::Invalid, "a NUL byte in a mount option");
    let into = script.slot();
    if options.page_length() <= PAGE_LIMIT {
        script.what("mount the file system");
        let data = options.page().ok_or_else(nul)?;
        let flags = u64::from(options.flags.bits());
        let (source, target, kind) = (&*words.source, &*words.rootfs, &*words.kind);
        script.push(Op::Mount { source, target, kind, flags, data: &data });
        script.push(Op::CloneTree { dir: Fd::CWD, path: target, flags: 0, into });
    } else {
        script.what("set overlay options one by one (lowerdir+ needs Linux 6.8)");
        let parameters = one_by_one(&options.parameters).ok_or_else(nul)?;
        let (kind, source, attributes) = (&*words.kind, &*words.source, options.attributes());
        let (parameters, root, like) = (Strings(&parameters), Fd::NONE, c"");
        script.push(Op::Filesystem { kind, source, parameters, attributes, root, like, into });
    }
    Ok(Fd::slot(into))
}

/// Pairs for [`Op::Filesystem`]; each layer is one.
fn one_by_one(parameters: &[String]) -> Option<Vec<u8>> {
    let pairs = parameters.iter().flat_map(|parameter| match parameter.split_once('=') {
        Some(("lowerdir", layers)) => layers.split(':').map(|layer| ("lowerdir+", layer)).collect::<Vec<_>>(),
        Some(pair) => vec![pair],
        None => vec![(parameter.as_str(), "")],
    });
    let mut flat = Vec::new();
    for word in pairs.flat_map(|(key, value)| [key, value]) {
        flat.extend(CString::new(word).ok()?.as_bytes_with_nul());
    }
    Some(flat)
}

/// Attributes and propagation.
fn set(script: &mut Script<'_>, tree: Fd, options: &Options) {
    script.what("set mount attributes");
    let (propagation, reach) = options.propagation();
    let (set, recursive) = (options.attributes(), u32::from(reach == Reach::Tree));
    // The ways of atime exclude each other: whoever sets one clears all.
    let clear = if set & ATIME == 0 { 0 } else { ATIME };
    script.push(Op::SetAttr { tree, recursive: 0, set, clear, propagation: 0 });
    if propagation != 0 {
        script.push(Op::SetAttr { tree, recursive, set: 0, clear: 0, propagation });
    }
}
