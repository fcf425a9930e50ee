//! Names, properties and annotations as data: what comes in, and what systemd is told.

use std::collections::HashMap;

use super::{Place, Property, Systemd, Value, annotations, as_kept, place, properties, scope};
use crate::resources::{Resources, Write};
use crate::{CgroupLayout, Host};

fn host(euid: u32) -> Host {
    let controllers = ["cpuset", "cpu", "io", "memory", "hugetlb", "pids"].map(str::to_owned).to_vec();
    let cgroups = CgroupLayout::Unified { mountpoint: "/sys/fs/cgroup".into(), controllers };
    Host {
        cgroups,
        last_capability: 40,
        euid,
        egid: 0,
        setgroups_denied: false,
        apparmor: false,
        selinux: false,
        in_user_namespace: false,
    }
}

fn placed(listed: Option<&str>, euid: u32, cgroup: &str) -> Result<Place, String> {
    let manager = Systemd { cgroup: cgroup.into(), version: 252 };
    place(listed, "c1", &host(euid), &manager).map_err(|refusal| refusal.problem)
}

#[test]
fn a_cgroups_path_names_a_unit_in_its_slices() {
    let table = [
        (None, "system.slice", "tare-c1.scope", "/system.slice/tare-c1.scope"),
        (Some(""), "system.slice", "tare-c1.scope", "/system.slice/tare-c1.scope"),
        (Some("::x"), "system.slice", "-x.scope", "/system.slice/-x.scope"),
        (Some("system.slice:docker:1"), "system.slice", "docker-1.scope", "/system.slice/docker-1.scope"),
        (Some("-:runc:1"), "-.slice", "runc-1.scope", "/runc-1.scope"),
        (Some("-.slice:runc:1"), "-.slice", "runc-1.scope", "/runc-1.scope"),
        (Some("a-b-c.slice:p:n"), "a-b-c.slice", "p-n.scope", "/a.slice/a-b.slice/a-b-c.slice/p-n.scope"),
        (Some("a_b.slice:_p:n"), "a_b.slice", "_p-n.scope", "/a_b.slice/__p-n.scope"),
        (Some("cpu.slice:p:n"), "cpu.slice", "p-n.scope", "/_cpu.slice/p-n.scope"),
    ];
    for (listed, slice, name, path) in table {
        let expected = Place { slice: slice.to_owned(), name: name.to_owned(), path: path.into() };
        assert_eq!(placed(listed, 0, "/"), Ok(expected), "{listed:?}");
    }
}

#[test]
fn a_user_s_unit_lies_below_the_user_s_manager() {
    let manager = "/user.slice/user-1000.slice/user@1000.service";
    let path = |listed| placed(listed, 1000, manager).map(|place| place.path.display().to_string());
    assert_eq!(path(None), Ok(format!("{manager}/user.slice/tare-c1.scope")));
    assert_eq!(path(Some("app.slice:p:n")), Ok(format!("{manager}/app.slice/p-n.scope")));
}

#[test]
fn a_cgroups_path_that_names_no_unit_is_refused() {
    let table = [
        ("/k8s.io/x", "slice:prefix:name"),
        ("system.slice:docker", "slice:prefix:name"),
        ("a:b:c:d", "slice:prefix:name"),
        ("machine:p:n", "invalid slice name: machine"),
        ("a--b.slice:p:n", "invalid slice name"),
        ("-a.slice:p:n", "invalid slice name"),
        (".slice:p:n", "invalid slice name"),
        ("user.slice/user-1.slice:p:n", "not the name of a unit"),
        ("system.slice:..:/../../x", "not the name of a unit"),
        ("system.slice:p:n\n", "not the name of a unit"),
        ("system.slice:p:kubepods.slice", "a slice holds no process"),
    ];
    for (listed, problem) in table {
        let refused = placed(Some(listed), 0, "/").expect_err(listed);
        assert!(refused.contains(problem), "{listed}: {refused}");
    }
    let long = format!("system.slice:p:{}", "x".repeat(300));
    assert!(placed(Some(&long), 0, "/").is_err());
}

fn limits(json: &str) -> Resources {
    let resources = serde_json::from_str(json).expect("resources");
    crate::resources::update(&resources, &host(0)).expect("a list of writes")
}

fn told(json: &str, version: u32) -> HashMap<String, Value> {
    properties(&limits(json), version).into_iter().map(|one| (one.name.into_owned(), one.value)).collect()
}

/// The typed field, the key of `unified` that means the same, and the properties of both.
#[test]
fn each_limit_that_systemd_has_a_property_for_becomes_one() {
    let number = |name: &str, value| (name.to_owned(), Value::Number(value));
    let bits = |name: &str, value: &[u8]| (name.to_owned(), Value::Bits(value.to_vec()));
    let table = [
        (r#"{"memory":{"limit":1048576}}"#, r#"{"memory.max":"1048576"}"#, vec![number("MemoryMax", 1 << 20)]),
        (r#"{"memory":{"reservation":-1}}"#, r#"{"memory.low":"max"}"#, vec![number("MemoryLow", u64::MAX)]),
        (
            r#"{"memory":{"limit":4096,"swap":12288}}"#,
            r#"{"memory.max":"4096","memory.swap.max":"8192"}"#,
            vec![number("MemoryMax", 4096), number("MemorySwapMax", 8192)],
        ),
        (r#"{"cpu":{"shares":512}}"#, r#"{"cpu.weight":"59"}"#, vec![number("CPUWeight", 59)]),
        (
            r#"{"cpu":{"quota":50000,"period":200000}}"#,
            r#"{"cpu.max":"50000 200000"}"#,
            vec![number("CPUQuotaPeriodUSec", 200_000), number("CPUQuotaPerSecUSec", 250_000)],
        ),
        (
            r#"{"cpu":{"quota":12345}}"#,
            r#"{"cpu.max":"12345"}"#,
            vec![number("CPUQuotaPeriodUSec", 100_000), number("CPUQuotaPerSecUSec", 130_000)],
        ),
        (
            r#"{"cpu":{"quota":-1,"period":100000}}"#,
            r#"{"cpu.max":"max 100000"}"#,
            vec![number("CPUQuotaPeriodUSec", 100_000), number("CPUQuotaPerSecUSec", u64::MAX)],
        ),
        (r#"{"cpu":{"idle":1}}"#, r#"{"cpu.idle":"1"}"#, vec![number("CPUWeight", 0)]),
        (
            r#"{"cpu":{"cpus":"0-2,8","mems":"0"}}"#,
            r#"{"cpuset.cpus":"0-2,8","cpuset.mems":"0"}"#,
            vec![bits("AllowedCPUs", &[7, 1]), bits("AllowedMemoryNodes", &[1])],
        ),
        (r#"{"pids":{"limit":-1}}"#, r#"{"pids.max":"max"}"#, vec![number("TasksMax", u64::MAX)]),
        (r#"{"blockIO":{"weight":1000}}"#, r#"{"io.weight":"default 10000"}"#, vec![number("IOWeight", 10_000)]),
    ];
    for (typed, unified, expected) in table {
        let expected: HashMap<_, _> = expected.into_iter().collect();
        assert_eq!(told(typed, 252), expected, "{typed}");
        assert_eq!(told(&format!(r#"{{"unified":{unified}}}"#), 252), expected, "{unified}");
    }
}

#[test]
fn limits_are_written_as_systemd_keeps_them() {
    for (asked, kept) in [
        (r#"{"cpu":{"quota":500000,"period":900000}}"#, "504000 900000"),
        (r#"{"cpu":{"quota":50000,"period":100000}}"#, "50000 100000"),
        (r#"{"cpu":{"quota":-1,"period":100000}}"#, "max 100000"),
        (r#"{"unified":{"cpu.max":"garbage"}}"#, "garbage"),
        (r#"{"unified":{"cpu.idle":"1","cpu.weight":"8"}}"#, "1"),
        (r#"{"unified":{"cpu.weight":"8"}}"#, "8"),
    ] {
        let kept_all = as_kept(&limits(asked));
        let values: Vec<_> = kept_all.writes.iter().map(|write| write.value.as_str()).collect();
        assert_eq!(values, [kept], "{asked}");
    }
}

#[test]
fn what_systemd_cannot_say_is_left_to_the_files() {
    for json in [
        r#"{"cpu":{"burst":1000}}"#,
        r#"{"hugepageLimits":[{"pageSize":"2MB","limit":4096}]}"#,
        r#"{"unified":{"pids.max":"0"}}"#,
        r#"{"unified":{"memory.max":"garbage"}}"#,
        r#"{"unified":{"cpu.max":"garbage"}}"#,
        r#"{"unified":{"cpuset.cpus":"5-1"}}"#,
        r#"{"unified":{"memory.oom.group":"1"}}"#,
    ] {
        assert_eq!(told(json, 252), HashMap::new(), "{json}");
        assert!(!limits(json).writes.is_empty(), "{json}");
    }
}

#[test]
fn an_older_systemd_is_told_what_it_knows() {
    let json = r#"{"cpu":{"quota":50000,"cpus":"0","idle":1}}"#;
    let names = |version| {
        let mut names: Vec<_> = told(json, version).into_keys().collect();
        names.sort();
        names
    };
    assert_eq!(names(241), ["CPUQuotaPerSecUSec"]);
    assert_eq!(names(243), ["CPUQuotaPerSecUSec", "CPUQuotaPeriodUSec"]);
    assert_eq!(names(251), ["AllowedCPUs", "CPUQuotaPerSecUSec", "CPUQuotaPeriodUSec"]);
    assert_eq!(names(252), ["AllowedCPUs", "CPUQuotaPerSecUSec", "CPUQuotaPeriodUSec", "CPUWeight"]);
}

#[test]
fn the_unit_is_whole_and_annotations_win() {
    let place = placed(Some("system.slice:docker:1"), 0, "/").expect("a place");
    let write = |file: &str, value: &str| Write {
        controller: "memory",
        file: file.to_owned(),
        value: value.to_owned(),
        field: "".into(),
        absent: crate::resources::Absent::Refuse,
        floor: None,
        other_half: None,
    };
    let resources = Resources { writes: vec![write("memory.max", "4096")], device_program: Some(vec![0; 8]) };
    let annotations = [("org.systemd.property.MemoryMax".to_owned(), "uint64 8192".to_owned())];
    let scope = scope(&place, "c1", &resources, &annotations, 252).expect("a unit");
    assert_eq!(scope.name, "docker-1.scope");
    let text = |name, value: &str| Property::new(name, Value::Text(value.to_owned()));
    let flag = |name, value| Property::new(name, Value::Flag(value));
    let expected = [
        text("Description", "tare container c1"),
        text("Slice", "system.slice"),
        flag("Delegate", true),
        flag("MemoryAccounting", true),
        flag("CPUAccounting", true),
        flag("IOAccounting", true),
        flag("TasksAccounting", true),
        flag("DefaultDependencies", false),
        Property::new("MemoryMax", Value::Number(4096)),
        Property::new("MemoryMax", Value::Number(8192)),
    ];
    assert_eq!(scope.properties, expected);
}

#[test]
fn values_are_read_as_gvariant_writes_them() {
    let texts = |texts: &[&str]| Value::Texts(texts.iter().map(|&text| text.to_owned()).collect());
    let table = [
        ("true", Value::Flag(true)),
        ("123", Value::Int(123)),
        ("-5", Value::Int(-5)),
        ("0x1f", Value::Int(31)),
        ("1.5", Value::Real(1.5)),
        ("uint64 123456789", Value::Number(123_456_789)),
        ("uint64 18446744073709551615", Value::Number(u64::MAX)),
        ("@t 7", Value::Number(7)),
        ("uint32 7", Value::Word(7)),
        ("int64 -7", Value::Long(-7)),
        ("byte 0x10", Value::Byte(16)),
        ("double 2", Value::Real(2.0)),
        ("'inactive-or-failed'", Value::Text("inactive-or-failed".to_owned())),
        (r#""it's \"x\"""#, Value::Text("it's \"x\"".to_owned())),
        ("['a.service', 'b.service']", texts(&["a.service", "b.service"])),
        ("@as []", texts(&[])),
    ];
    for (text, expected) in table {
        assert_eq!(Value::parse(text), Ok(expected), "{text}");
    }
    for text in [
        "",
        "'open",
        "inactive",
        "3000000000",
        "uint32 -1",
        "byte 256",
        "uint64 x",
        "uint64 ",
        "['a'",
        "['a' 'b']",
        "['a']x",
        "'a' 'b'",
        "nan",
        "inf",
        "{'a': 1}",
        "@(st) ('a', 1)",
        "boolean 1",
        "++1",
        "int32 1 2",
    ] {
        assert!(Value::parse(text).is_err(), "{text:?} was read as {:?}", Value::parse(text));
    }
}

#[test]
fn annotations_become_properties_and_seconds_become_microseconds() {
    let table = [
        ("TimeoutStopUSec", "uint64 123456789", "TimeoutStopUSec", Value::Number(123_456_789)),
        ("TimeoutStopSec", "uint32 5", "TimeoutStopUSec", Value::Number(5_000_000)),
        ("RuntimeMaxSec", "1.5", "RuntimeMaxUSec", Value::Number(1_500_000)),
        ("CollectMode", "'inactive-or-failed'", "CollectMode", Value::Text("inactive-or-failed".to_owned())),
        ("After", "['a.service']", "After", Value::Texts(vec!["a.service".to_owned()])),
    ];
    for (key, text, name, value) in table {
        let listed = [(format!("org.systemd.property.{key}"), text.to_owned())];
        assert_eq!(annotations::properties(&listed), Ok(vec![Property::new(name, value)]), "{key}");
    }
    let others = [("org.systemd".to_owned(), "x".to_owned()), ("io.kubernetes.x".to_owned(), "y".to_owned())];
    assert_eq!(annotations::properties(&others), Ok(Vec::new()));
}

#[test]
fn an_annotation_cannot_reach_beyond_its_container() {
    for (name, text) in [
        ("PIDs", "@au [1]"),
        ("FailureAction", "'reboot'"),
        ("Conflicts", "['kubelet.service']"),
        ("Requires", "['rescue.target']"),
        ("Slice", "'-.slice'"),
        ("Delegate", "false"),
        ("DevicePolicy", "'auto'"),
        ("", "'x'"),
        ("Sec", "1"),
        ("TimeoutStopSec", "'x'"),
        ("TimeoutStopSec", "-1"),
        ("TimeoutStopUSec", "soon"),
    ] {
        let key = format!("org.systemd.property.{name}");
        let refused = annotations::properties(&[(key.clone(), text.to_owned())]).expect_err(name);
        assert_eq!(refused.field, format!("annotations[{key}]"));
    }
}
