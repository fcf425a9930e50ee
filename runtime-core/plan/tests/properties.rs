//! Properties of what is decided, for many inputs and not for chosen ones. The inputs are made here, from a fixed seed, so
//! that a failure is one for everybody.

#![allow(clippy::unwrap_used, reason = "a test says what went wrong by panicking")]

use std::path::PathBuf;

use oci_spec::runtime::Spec;
use serde_json::{Value, json};
use tare_plan::{CapabilitySets, CgroupLayout, Choices, Host, Plan, Refusal, capability_names, container};

/// splitmix64.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.roll() % end as u64).unwrap()
    }

    /// A number near an edge as often as any other.
    fn id(&mut self) -> u32 {
        let edge = [0, 1, u32::MAX, u32::MAX - 1, 1 << 31, 65536][self.below(6)];
        let any = u32::try_from(self.roll() & 0xffff_ffff).unwrap();
        if self.below(2) == 0 { edge } else { any >> self.below(32) }
    }
}

fn host(last_capability: u8) -> Host {
    let controllers = ["cpuset", "cpu", "io", "memory", "hugetlb", "pids"].map(str::to_owned).to_vec();
    Host {
        cgroups: CgroupLayout::Unified { mountpoint: PathBuf::from("/sys/fs/cgroup"), controllers },
        last_capability,
        euid: 0,
        egid: 0,
        setgroups_denied: false,
        apparmor: false,
        selinux: false,
        in_user_namespace: false,
    }
}

fn small() -> Value {
    json!({
        "ociVersion": "1.3.0",
        "root": { "path": "rootfs" },
        "process": { "args": ["x"], "cwd": "/", "user": { "uid": 0, "gid": 0 } },
        "linux": { "namespaces": [{ "type": "mount" }, { "type": "pid" }] },
    })
}

fn planned(spec: &Value, host: &Host) -> Result<Plan, Refusal> {
    let spec: Spec = serde_json::from_value(spec.clone()).unwrap();
    let choices =
        Choices { id: "c1".to_owned(), bundle: "/bundle".into(), default_cgroup_parent: "/tare".into(), systemd: None };
    container(&spec, &choices, host)
}

#[test]
fn an_id_map_is_planned_as_it_stands_or_refused() {
    let mut dice = Dice(1);
    let (mut kept, mut refused) = (0, 0);
    for _ in 0..1000 {
        let (inside, outside, count) = (dice.id(), dice.id(), dice.id());
        let mut spec = small();
        spec["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "user" }));
        let map = json!([{ "containerID": inside, "hostID": outside, "size": count }]);
        spec["linux"]["uidMappings"] = map.clone();
        spec["linux"]["gidMappings"] = map;
        // No id of the range may be 4294967295, inside or outside.
        let fits = |first: u32| u64::from(first) + u64::from(count) <= u64::from(u32::MAX);
        match planned(&spec, &host(40)) {
            Ok(plan) => {
                let one = plan.namespaces.uid_map[0];
                assert_eq!((one.inside, one.outside, one.count), (inside, outside, count));
                assert!(count > 0 && fits(inside) && fits(outside), "{inside} {outside} {count}");
                kept += 1;
            }
            Err(refusal) => {
                assert!(count == 0 || !fits(inside) || !fits(outside), "{inside} {outside} {count}: {refusal}");
                refused += 1;
            }
        }
    }
    assert!(kept > 100 && refused > 100, "{kept} {refused}");
}

#[test]
fn capabilities_never_grow_on_the_way() {
    let mut dice = Dice(2);
    let names = capability_names(40);
    for _ in 0..500 {
        let last = u8::try_from(dice.below(41)).unwrap();
        let known = u64::MAX >> (63 - last);
        let mut asked = [0_u64; 5];
        let mut listed = json!({});
        for (set, name) in asked.iter_mut().zip(["bounding", "effective", "permitted", "inheritable", "ambient"]) {
            *set = dice.roll() & dice.roll() & (u64::MAX >> 23);
            let held: Vec<&String> =
                names.iter().zip(0..).filter(|(_, bit)| *set >> bit & 1 == 1).map(|(n, _)| n).collect();
            listed[name] = json!(held);
        }
        let [bounding, effective, permitted, inheritable, ambient] = asked.map(|set| set & known);
        let mut spec = small();
        spec["process"]["capabilities"] = listed;
        match planned(&spec, &host(last)) {
            Ok(plan) => {
                let ambient = ambient & permitted & inheritable;
                let expected = CapabilitySets { bounding, effective, permitted, inheritable, ambient };
                assert_eq!(plan.process.capabilities, expected);
                assert_eq!(effective & !permitted, 0);
            }
            Err(_) => assert_ne!(effective & !permitted, 0),
        }
    }
}

/// `cpu.weight` of some shares.
fn weight(shares: u64) -> u64 {
    let mut spec = small();
    spec["linux"]["resources"] = json!({ "cpu": { "shares": shares } });
    let plan = planned(&spec, &host(40)).unwrap();
    let write = plan.cgroup.resources.writes.iter().find(|write| write.file == "cpu.weight").unwrap();
    write.value.parse().unwrap()
}

#[test]
fn more_shares_never_weigh_less() {
    let mut last = 0;
    for shares in (1..600).chain((600..262_144).step_by(997)).chain([262_144, 262_145, u64::MAX]) {
        let now = weight(shares);
        assert!((1..=10_000).contains(&now) && now >= last, "{shares} shares weigh {now}, fewer {last}");
        last = now;
    }
    assert_eq!((weight(1024), last), (100, 10_000));
}

#[test]
fn a_list_of_cpus_is_the_set_of_its_numbers() {
    let mut dice = Dice(3);
    for _ in 0..500 {
        let parts: Vec<(usize, usize)> = (0..=dice.below(5))
            .map(|_| {
                let first = dice.below(300);
                (first, first + dice.below(3) * dice.below(70))
            })
            .collect();
        let word =
            |(first, last): &(usize, usize)| if first == last { first.to_string() } else { format!("{first}-{last}") };
        let text = parts.iter().map(word).collect::<Vec<_>>().join(",");
        let mut spec = small();
        spec["linux"]["memoryPolicy"] = json!({ "mode": "MPOL_BIND", "nodes": text });
        let nodes = planned(&spec, &host(40)).unwrap().memory_policy.unwrap().nodes;
        for number in 0..nodes.len() * 64 {
            let wanted = parts.iter().any(|(first, last)| (*first..=*last).contains(&number));
            assert_eq!(nodes[number / 64] >> (number % 64) & 1 == 1, wanted, "{number} of {text}");
        }
        assert!(parts.iter().all(|(_, last)| last / 64 < nodes.len()), "{text}");
    }
}

/// Paths of all shapes: what is planned is absolute, clean, and below the root in the sense that words have.
#[test]
fn a_target_is_clean_whatever_it_was() {
    let mut dice = Dice(4);
    let words = ["a", "b.c", ".", "..", "", "...", "-", "é", "a b"];
    for _ in 0..1000 {
        let parts: Vec<&str> = (0..=dice.below(7)).map(|_| words[dice.below(words.len())]).collect();
        let text = format!("/{}", parts.join("/"));
        let mut spec = small();
        spec["process"]["cwd"] = json!(text);
        let cwd = planned(&spec, &host(40)).unwrap().process.cwd.into_string().unwrap();
        let clean = cwd == "/" || cwd[1..].split('/').all(|part| !matches!(part, "" | "." | ".."));
        assert!(cwd.starts_with('/') && clean, "{text} became {cwd}");
        let mut expected: Vec<&str> = Vec::new();
        for part in &parts {
            match *part {
                "" | "." => {}
                ".." => drop(expected.pop()),
                part => expected.push(part),
            }
        }
        assert_eq!(cwd, format!("/{}", expected.join("/")), "{text}");
    }
}
