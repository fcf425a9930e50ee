//! `linux.intelRdt`: the resctrl group of a container's processes, and what is written into its schemata. Whether the
//! hardware has any of it is for the host to say.

use oci_spec::runtime::LinuxIntelRdt;

use crate::{IntelRdt, RdtGroup, RdtResource, Refusal};

const FIELD: &str = "linux.intelRdt";

pub(crate) fn plan(listed: &LinuxIntelRdt) -> Result<IntelRdt, Refusal> {
    let group = match listed.clos_id().as_deref() {
        None | Some("") => RdtGroup::Own,
        Some("/") => RdtGroup::Top,
        Some(name) if matches!(name, "." | "..") || name.contains(['/', '\0', '\n']) => {
            return Err(Refusal::new(format!("{FIELD}.closID"), format!("invalid intelRdt.ClosID {name:?}")));
        }
        Some(name) => RdtGroup::Named(name.to_owned()),
    };
    let text = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let (cache, bandwidth) = (text(listed.l3_cache_schema()), text(listed.mem_bw_schema()));
    let schemata = listed.schemata().clone().unwrap_or_default();
    Ok(IntelRdt {
        group,
        needs: rdt_needs(cache.as_deref(), bandwidth.as_deref()),
        schemata: lines(cache.as_deref(), bandwidth.as_deref(), &schemata),
        monitoring: listed.enable_monitoring().unwrap_or(false),
    })
}

/// The lines of `schemata`. Of two about one thing the kernel keeps the later; bandwidth is not taken from the schema of
/// the cache where it has one of its own (runtime-spec, config-linux.md).
#[must_use]
pub fn rdt_lines(cache: Option<&str>, bandwidth: Option<&str>) -> Vec<String> {
    lines(cache, bandwidth, &[])
}

/// What the hardware has to have for these schemata.
#[must_use]
pub fn rdt_needs(cache: Option<&str>, bandwidth: Option<&str>) -> Vec<RdtResource> {
    let (cache, bandwidth) = (cache.map(|_| RdtResource::Cache), bandwidth.map(|_| RdtResource::Bandwidth));
    cache.into_iter().chain(bandwidth).collect()
}

fn lines(cache: Option<&str>, bandwidth: Option<&str>, schemata: &[String]) -> Vec<String> {
    let cache = cache.into_iter().flat_map(str::lines);
    let cache = cache.filter(|line| bandwidth.is_none() || !line.trim_start().starts_with("MB:"));
    let rest = bandwidth.into_iter().chain(schemata.iter().map(String::as_str)).flat_map(str::lines);
    cache.chain(rest).map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<(RdtGroup, &[&str])>) {
        let listed: LinuxIntelRdt = serde_json::from_str(text).unwrap();
        let planned = plan(&listed).ok().map(|rdt| (rdt.group, rdt.schemata));
        let expected = expected.map(|(group, lines)| (group, lines.iter().map(|&line| line.to_owned()).collect()));
        assert_eq!(planned, expected, "{text}");
    }

    #[test]
    fn a_group_is_the_containers_own_or_named() {
        check("{}", Some((RdtGroup::Own, &[])));
        check(r#"{"closID":""}"#, Some((RdtGroup::Own, &[])));
        check(r#"{"closID":"/"}"#, Some((RdtGroup::Top, &[])));
        check(r#"{"closID":"gold"}"#, Some((RdtGroup::Named("gold".into()), &[])));
        for bad in [r#"{"closID":"."}"#, r#"{"closID":".."}"#, r#"{"closID":"a/b"}"#, r#"{"closID":"a\u0000"}"#] {
            check(bad, None);
        }
    }

    #[test]
    fn schemata_are_lines_and_the_later_one_wins() {
        let text =
            r#"{"l3CacheSchema":"L3:0=ff;1=c0\nMB:0=10","memBwSchema":"MB:0=20;1=70","schemata":["L2:0=f"," "]}"#;
        check(text, Some((RdtGroup::Own, &["L3:0=ff;1=c0", "MB:0=20;1=70", "L2:0=f"])));
        check(r#"{"l3CacheSchema":"L3:0=ff\nMB:0=10"}"#, Some((RdtGroup::Own, &["L3:0=ff", "MB:0=10"])));
    }
}
