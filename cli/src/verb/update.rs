//! `update`: other limits for a container that exists.

use std::io::Read as _;

use runtime_core::oci;
use serde_json::{Map, Value, json};

use crate::command::{Command, Words};
use crate::failure::{Failure, Outcome};
use crate::flags::{Flag, Given, Order, value};
use crate::session::Session;
use crate::units;

const FLAGS: &[Flag] = &[
    value(&["resources", "r"], "a file with linux.resources as JSON, or - for standard input; other options count not"),
    value(&["blkio-weight"], "weight of block I/O, 10 to 1000"),
    value(&["cpu-period"], "microseconds of a period of CPU bandwidth"),
    value(&["cpu-quota"], "microseconds that may be used in a period"),
    value(&["cpu-burst"], "microseconds that may be saved up"),
    value(&["cpu-share"], "weight of CPU time"),
    value(&["cpu-rt-period"], "microseconds of a period of real-time scheduling"),
    value(&["cpu-rt-runtime"], "microseconds of real-time scheduling in a period"),
    value(&["cpu-idle"], "1: run only when nothing else wants to; 0: as usual"),
    value(&["cpuset-cpus"], "CPUs to use"),
    value(&["cpuset-mems"], "memory nodes to use"),
    value(&["kernel-memory"], ""),
    value(&["kernel-memory-tcp"], ""),
    value(&["memory"], "limit of memory in bytes, or with a unit; -1 for none"),
    value(&["memory-reservation"], "memory to be left with when it is short"),
    value(&["memory-swap"], "limit of memory and swap together; -1 for none"),
    value(&["pids-limit"], "limit of processes; -1 for none"),
    value(&["l3-cache-schema"], "schema of Intel RDT/CAT for the L3 cache"),
    value(&["mem-bw-schema"], "schema of Intel RDT/MBA for memory bandwidth"),
];

pub(crate) const COMMAND: Command = Command {
    name: "update",
    usage: "<container-id>",
    about: "change the limits of a container",
    details: "What is not named stays as it is.",
    flags: &[FLAGS],
    order: Order::Anywhere,
    words: Words::Exactly(1),
    run,
};

/// Numbers, and where the specification has them.
const NUMBERS: &[(&str, &str, &str)] = &[
    ("blkio-weight", "blockIO", "weight"),
    ("cpu-period", "cpu", "period"),
    ("cpu-quota", "cpu", "quota"),
    ("cpu-burst", "cpu", "burst"),
    ("cpu-share", "cpu", "shares"),
    ("cpu-rt-period", "cpu", "realtimePeriod"),
    ("cpu-rt-runtime", "cpu", "realtimeRuntime"),
    ("cpu-idle", "cpu", "idle"),
    ("pids-limit", "pids", "limit"),
];
const TEXTS: &[(&str, &str, &str)] = &[("cpuset-cpus", "cpu", "cpus"), ("cpuset-mems", "cpu", "mems")];
const AMOUNTS: &[(&str, &str, &str)] = &[
    ("memory", "memory", "limit"),
    ("memory-reservation", "memory", "reservation"),
    ("memory-swap", "memory", "swap"),
];

fn run(session: &Session, given: &Given) -> Outcome {
    let container = session.store.open(given.id())?;
    for ignored in ["kernel-memory", "kernel-memory-tcp"] {
        if given.filled(ignored).is_some() {
            session.log.warn("Kernel memory settings are ignored and will be removed");
        }
    }
    let resources = match given.filled("resources") {
        Some(path) => decode(&read(path)?)?,
        None => from_flags(given)?,
    };
    container.update(&resources)?;
    let schemata = ["l3-cache-schema", "mem-bw-schema"].map(|name| given.filled(name));
    if schemata != [None, None] {
        container.update_intel_rdt(schemata[0], schemata[1])?;
    }
    Ok(0)
}

fn read(path: &str) -> Result<Value, Failure> {
    let mut text = Vec::new();
    let read = match path {
        "-" => std::io::stdin().lock().read_to_end(&mut text),
        path => std::fs::File::open(path).and_then(|mut file| file.read_to_end(&mut text)),
    };
    read.map_err(|error| Failure::io(format!("open {path}"), error))?;
    serde_json::from_slice(&text).map_err(|error| Failure::new(format!("{path}: {error}")))
}

fn decode(resources: &Value) -> Result<oci::LinuxResources, Failure> {
    serde::Deserialize::deserialize(runtime_core::AnyCase(resources))
        .map_err(|error| Failure::new(format!("resources: {error}")))
}

fn from_flags(given: &Given) -> Result<oci::LinuxResources, Failure> {
    let mut resources: Map<String, Value> = Map::new();
    let mut put = |section: &str, field: &str, value: Value| {
        if let Some(section) = resources.entry(section).or_insert_with(|| json!({})).as_object_mut() {
            section.insert(field.to_owned(), value);
        }
    };
    for (flag, section, field) in NUMBERS {
        if let Some(text) = given.filled(flag) {
            let number: i128 = text.parse().map_err(|_| no_number(flag, text))?;
            let number = i64::try_from(number).map(Value::from).or_else(|_| u64::try_from(number).map(Value::from));
            put(section, field, number.map_err(|_| no_number(flag, text))?);
        }
    }
    for (flag, section, field) in TEXTS {
        if let Some(text) = given.filled(flag) {
            put(section, field, text.into());
        }
    }
    for (flag, section, field) in AMOUNTS {
        if let Some(text) = given.filled(flag) {
            let amount = if text == "-1" { Some(-1) } else { units::bytes(text) };
            put(section, field, amount.ok_or_else(|| no_amount(flag, text))?.into());
        }
    }
    decode(&Value::Object(resources))
}

/// The texts are those of Go's libraries.
fn no_number(flag: &str, text: &str) -> Failure {
    Failure::new(format!("invalid value for {flag}: strconv.ParseInt: parsing {text:?}: invalid syntax"))
}

fn no_amount(flag: &str, text: &str) -> Failure {
    Failure::new(format!("invalid value for {flag}: invalid size: '{text}'"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flags::{Parsed, parse};

    fn resources(line: &str) -> Result<Value, String> {
        let words = line.split_whitespace().map(str::to_owned);
        let Ok(Parsed::Given(given)) = parse(COMMAND.flags, COMMAND.order, words) else { panic!("{line}") };
        let decoded = from_flags(&given).map_err(|failure| failure.to_string())?;
        Ok(serde_json::to_value(decoded).unwrap())
    }

    #[test]
    fn flags_become_resources() {
        for (line, expected) in [
            ("c", json!({})),
            ("c --memory 512m --memory-swap=-1", json!({"memory": {"limit": 512 << 20, "swap": -1}})),
            ("--memory-reservation 1g c", json!({"memory": {"reservation": 1 << 30}})),
            (
                "--cpu-quota -1 --cpu-period 100000 --cpu-share 512 --cpu-idle 1 c",
                json!({"cpu": {"quota": -1, "period": 100_000, "shares": 512, "idle": 1}}),
            ),
            ("--cpuset-cpus 0-1 --cpuset-mems 0 c", json!({"cpu": {"cpus": "0-1", "mems": "0"}})),
            ("--pids-limit 20 --blkio-weight 100 c", json!({"pids": {"limit": 20}, "blockIO": {"weight": 100}})),
        ] {
            assert_eq!(resources(line).unwrap(), expected, "{line}");
        }
    }

    #[test]
    fn what_is_no_amount_is_refused_by_the_name_of_the_flag() {
        for (line, expected) in [
            ("c --memory 5x", "invalid value for memory: invalid size: '5x'"),
            ("c --cpu-period x", "invalid value for cpu-period: strconv.ParseInt: parsing \"x\": invalid syntax"),
            ("c --cpu-share 9e9", "invalid value for cpu-share: strconv.ParseInt: parsing \"9e9\": invalid syntax"),
        ] {
            assert_eq!(resources(line).unwrap_err(), expected);
        }
        assert!(resources("c --cpu-share -5").unwrap_err().starts_with("resources: "));
    }
}
