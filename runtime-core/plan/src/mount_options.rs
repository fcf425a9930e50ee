//! The options of one mount, sorted into what the mount calls of the kernel take: attributes, propagation, parameters of
//! the file system. It knows nothing of sources and targets.

use std::ffi::CString;

use crate::inside_path::c_string;
use crate::{Attributes, Propagation, Reach, Refusal};

/// `MOUNT_ATTR_*`, as mount_setattr(2) has them.
pub(crate) mod attr {
    pub(crate) const RDONLY: u64 = 0x01;
    pub(crate) const NOSUID: u64 = 0x02;
    pub(crate) const NODEV: u64 = 0x04;
    pub(crate) const NOEXEC: u64 = 0x08;
    pub(crate) const ATIME: u64 = 0x70;
    pub(crate) const RELATIME: u64 = 0x00;
    pub(crate) const NOATIME: u64 = 0x10;
    pub(crate) const STRICTATIME: u64 = 0x20;
    pub(crate) const NODIRATIME: u64 = 0x80;
    pub(crate) const NOSYMFOLLOW: u64 = 0x20_0000;
}

/// What the options of one mount ask for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Options {
    /// `bind` or `rbind`.
    pub(crate) bind: Option<Reach>,
    /// `remount`.
    pub(crate) remount: bool,
    /// `idmap` or `ridmap`.
    pub(crate) id_map: Option<Reach>,
    /// `tmpcopyup`.
    pub(crate) copy_up: bool,
    /// `ro`, `nosuid` and their kin.
    pub(crate) attributes: Attributes,
    /// `rro`, `rnosuid` and their kin.
    pub(crate) recursive: Attributes,
    /// `slave`, `rshared` and their kin, in order.
    pub(crate) propagation: Vec<(Propagation, Reach)>,
    /// Flags of the file system itself: `sync`, `dirsync`, `lazytime`, `mand`.
    pub(crate) superblock: Vec<&'static str>,
    /// What only the file system understands.
    pub(crate) data: Vec<(CString, Option<CString>)>,
}

/// What one word does.
#[derive(Debug, Clone, Copy)]
enum Meaning {
    Nothing,
    Set(u64),
    Clear(u64),
    /// An atime mode: the modes exclude each other, so the whole field is cleared first.
    Atime(u64),
    /// Not this atime mode. For one mount, where it was asked for before nothing is, and else nothing changes: that is what
    /// mount(2) knows. For a tree it is the mode that is neither.
    NotAtime(u64),
    Superblock(&'static str),
    NoSuperblock(&'static str),
    Propagate(Propagation),
    Bind,
    Remount,
    CopyUp,
    IdMap(Reach),
}

/// Every word of the specification's list but the recursive ones, which are these with an `r` in front.
///
/// `iversion` is nothing to ask for: the file systems that count changes do so always, and fsconfig(2) has no word for
/// it. `silent` and `loud` only chose how loud a failing mount(2) was in the kernel's log.
const WORDS: [(&str, Meaning); 39] = [
    ("defaults", Meaning::Nothing),
    ("iversion", Meaning::Nothing),
    ("noiversion", Meaning::Nothing),
    ("silent", Meaning::Nothing),
    ("loud", Meaning::Nothing),
    ("ro", Meaning::Set(attr::RDONLY)),
    ("rw", Meaning::Clear(attr::RDONLY)),
    ("nosuid", Meaning::Set(attr::NOSUID)),
    ("suid", Meaning::Clear(attr::NOSUID)),
    ("nodev", Meaning::Set(attr::NODEV)),
    ("dev", Meaning::Clear(attr::NODEV)),
    ("noexec", Meaning::Set(attr::NOEXEC)),
    ("exec", Meaning::Clear(attr::NOEXEC)),
    ("nodiratime", Meaning::Set(attr::NODIRATIME)),
    ("diratime", Meaning::Clear(attr::NODIRATIME)),
    ("nosymfollow", Meaning::Set(attr::NOSYMFOLLOW)),
    ("symfollow", Meaning::Clear(attr::NOSYMFOLLOW)),
    ("noatime", Meaning::Atime(attr::NOATIME)),
    ("atime", Meaning::NotAtime(attr::NOATIME)),
    ("relatime", Meaning::Atime(attr::RELATIME)),
    ("norelatime", Meaning::NotAtime(attr::RELATIME)),
    ("strictatime", Meaning::Atime(attr::STRICTATIME)),
    ("nostrictatime", Meaning::NotAtime(attr::STRICTATIME)),
    ("sync", Meaning::Superblock("sync")),
    ("async", Meaning::NoSuperblock("sync")),
    ("dirsync", Meaning::Superblock("dirsync")),
    ("lazytime", Meaning::Superblock("lazytime")),
    ("nolazytime", Meaning::NoSuperblock("lazytime")),
    ("mand", Meaning::Superblock("mand")),
    ("nomand", Meaning::NoSuperblock("mand")),
    ("private", Meaning::Propagate(Propagation::Private)),
    ("slave", Meaning::Propagate(Propagation::Slave)),
    ("shared", Meaning::Propagate(Propagation::Shared)),
    ("unbindable", Meaning::Propagate(Propagation::Unbindable)),
    ("bind", Meaning::Bind),
    ("remount", Meaning::Remount),
    ("tmpcopyup", Meaning::CopyUp),
    ("idmap", Meaning::IdMap(Reach::Top)),
    ("ridmap", Meaning::IdMap(Reach::Tree)),
];

/// Options whose value may hold commas: SELinux contexts, as a whole and with or without quotes.
const CONTEXTS: [&str; 4] = ["context", "fscontext", "defcontext", "rootcontext"];

pub(crate) fn parse(field: &str, options: &[String]) -> Result<Options, Refusal> {
    let mut parsed = Options::default();
    for option in options {
        match meaning(option) {
            Some((meaning, reach)) => parsed.apply(meaning, reach),
            None => parsed.data.extend(parameters(field, option)?),
        }
    }
    Ok(parsed)
}

/// Every option that is understood here and not left to the file system, for `tare features`.
#[must_use]
pub fn names() -> Vec<String> {
    let words = WORDS.iter().flat_map(|(word, _)| [(*word).to_owned(), format!("r{word}")]);
    let sorted: std::collections::BTreeSet<String> = words.filter(|word| meaning(word).is_some()).collect();
    sorted.into_iter().collect()
}

/// The word itself, or the recursive form of a word that has one.
fn meaning(option: &str) -> Option<(Meaning, Reach)> {
    let look_up = |word: &str| WORDS.iter().find(|(known, _)| *known == word).map(|(_, meaning)| *meaning);
    let recursive = |meaning: &Meaning| {
        matches!(
            meaning,
            Meaning::Set(_)
                | Meaning::Clear(_)
                | Meaning::Atime(_)
                | Meaning::NotAtime(_)
                | Meaning::Propagate(_)
                | Meaning::Bind
        )
    };
    let top = look_up(option).map(|meaning| (meaning, Reach::Top));
    top.or_else(|| {
        let meaning = look_up(option.strip_prefix('r')?).filter(recursive)?;
        Some((meaning, Reach::Tree))
    })
}

impl Options {
    /// Later words win over earlier ones.
    fn apply(&mut self, meaning: Meaning, reach: Reach) {
        let attributes = match reach {
            Reach::Top => &mut self.attributes,
            Reach::Tree => &mut self.recursive,
        };
        match meaning {
            Meaning::Nothing => {}
            Meaning::Set(bit) => {
                attributes.set |= bit;
                attributes.clear &= !bit;
            }
            Meaning::Clear(bit) => {
                attributes.set &= !bit;
                attributes.clear |= bit;
            }
            Meaning::Atime(mode) => {
                attributes.set = attributes.set & !attr::ATIME | mode;
                attributes.clear |= attr::ATIME;
            }
            Meaning::NotAtime(_) if reach == Reach::Tree => self.apply(Meaning::Atime(attr::RELATIME), reach),
            Meaning::NotAtime(mode) => {
                if attributes.clear & attr::ATIME != 0 && attributes.set & attr::ATIME == mode {
                    attributes.set &= !attr::ATIME;
                    attributes.clear &= !attr::ATIME;
                }
            }
            Meaning::Superblock(flag) => {
                self.superblock.retain(|other| *other != flag);
                self.superblock.push(flag);
            }
            Meaning::NoSuperblock(flag) => self.superblock.retain(|other| *other != flag),
            Meaning::Propagate(propagation) => self.propagation.push((propagation, reach)),
            Meaning::Bind => self.bind = Some(reach),
            Meaning::Remount => self.remount = true,
            Meaning::CopyUp => self.copy_up = true,
            Meaning::IdMap(reach) => self.id_map = Some(reach),
        }
    }
}

/// `size=64k` is a key and a value, `newinstance` a flag; one option may hold several, as mount(8) writes them.
fn parameters(field: &str, option: &str) -> Result<Vec<(CString, Option<CString>)>, Refusal> {
    if let Some((key, value)) = option.split_once('=').filter(|(key, _)| CONTEXTS.contains(key)) {
        return Ok(vec![(c_string(field, key)?, Some(c_string(field, value.trim_matches('"'))?))]);
    }
    let words = option.split(',').filter(|word| !word.is_empty());
    words
        .map(|word| match word.split_once('=') {
            Some(("", _)) => Err(Refusal::new(field, format!("{word:?} has no key"))),
            Some((key, value)) => Ok((c_string(field, key)?, Some(c_string(field, value)?))),
            None => Ok((c_string(field, word)?, None)),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(options: &str) -> Options {
        let options: Vec<String> = options.split(' ').map(str::to_owned).collect();
        parse("f", &options).unwrap()
    }

    #[test]
    fn attributes_are_set_and_cleared_and_the_last_word_wins() {
        let all = attr::ATIME;
        let table = [
            ("ro", 1, 0),
            ("ro rw", 0, 1),
            ("rw ro", 1, 0),
            ("nosuid nodev noexec", 0xe, 0),
            ("suid dev exec", 0, 0xe),
            ("noatime", 0x10, all),
            ("noatime strictatime", 0x20, all),
            ("strictatime noatime", 0x10, all),
            ("strictatime relatime", 0, all),
            ("atime norelatime nostrictatime", 0, 0),
            ("noatime atime", 0, 0),
            ("noatime norelatime", 0x10, all),
            ("relatime norelatime", 0, 0),
            ("nodiratime noatime", 0x90, all),
            ("nosymfollow", 0x20_0000, 0),
            ("symfollow", 0, 0x20_0000),
            ("defaults loud silent iversion noiversion sync mand", 0, 0),
        ];
        for (options, set, clear) in table {
            assert_eq!(parsed(options).attributes, Attributes { set, clear }, "{options}");
            assert_eq!(parsed(options).recursive, Attributes::default(), "{options}");
            assert!(parsed(options).data.is_empty(), "{options}");
        }
    }

    #[test]
    fn every_attribute_has_a_recursive_form() {
        for (word, meaning) in WORDS.into_iter().filter(|(word, _)| !word.ends_with("idmap")) {
            let recursive = parsed(&format!("r{word}"));
            match meaning {
                Meaning::NotAtime(_) => {
                    assert_eq!(recursive.recursive, Attributes { set: 0, clear: attr::ATIME }, "r{word}");
                }
                Meaning::Set(_) | Meaning::Clear(_) | Meaning::Atime(_) => {
                    assert_eq!(recursive.recursive, parsed(word).attributes, "r{word}");
                    assert_eq!(recursive.attributes, Attributes::default(), "r{word}");
                }
                Meaning::Propagate(kind) => assert_eq!(recursive.propagation, [(kind, Reach::Tree)], "r{word}"),
                Meaning::Bind => assert_eq!(recursive.bind, Some(Reach::Tree)),
                _ => assert_eq!(recursive.data.len(), 1, "r{word} is the file system's"),
            }
        }
    }

    /// The list of runtime-spec 1.3's config.md.
    #[test]
    fn every_word_of_the_specification_is_known() {
        let list = "async atime bind defaults dev diratime dirsync exec idmap iversion lazytime loud mand noatime nodev \
            nodiratime noexec noiversion nolazytime nomand norelatime nostrictatime nosuid nosymfollow private ratime \
            rbind rdev rdiratime relatime remount rexec ridmap rnoatime rnodev rnodiratime rnoexec rnorelatime rnostrictatime \
            rnosuid rnosymfollow ro rprivate rrelatime rro rrw rshared rslave rstrictatime rsuid rsymfollow runbindable \
            rw shared silent slave strictatime suid symfollow sync tmpcopyup unbindable";
        let known = names();
        for word in list.split_whitespace() {
            assert!(parsed(word).data.is_empty(), "{word}");
            assert!(known.iter().any(|name| name == word), "{word} is not named");
        }
        assert!(known.iter().all(|name| parsed(name).data.is_empty()));
    }

    #[test]
    fn what_is_not_known_is_the_file_systems() {
        let pair = |(key, value): &(CString, Option<CString>)| match value {
            Some(value) => format!("{}={}", key.to_str().unwrap(), value.to_str().unwrap()),
            None => key.to_str().unwrap().to_owned(),
        };
        let table = [
            ("mode=755 size=64k newinstance", "mode=755;size=64k;newinstance"),
            ("lowerdir=/a:/b,upperdir=/c", "lowerdir=/a:/b;upperdir=/c"),
            ("context=\"a:b:c1,c2\"", "context=a:b:c1,c2"),
            ("opt=", "opt="),
            ("a=b=c", "a=b=c"),
            (",,", ""),
            ("READONLY", "READONLY"),
        ];
        for (options, expected) in table {
            let data: Vec<String> = parsed(options).data.iter().map(pair).collect();
            assert_eq!(data.join(";"), expected, "{options}");
        }
    }

    #[test]
    fn superblock_flags_and_the_refused_words() {
        assert_eq!(parsed("sync dirsync async lazytime mand nomand").superblock, ["dirsync", "lazytime"]);
        for option in ["=x", "a\0b"] {
            assert!(parse("f", &[option.to_owned()]).is_err(), "{option:?}");
        }
    }
}
