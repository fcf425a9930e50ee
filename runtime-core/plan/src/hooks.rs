//! The hooks: absolute programs with their own environment and nothing else (CVE-2025-23266).

use oci_spec::runtime as oci;

use crate::inside_path::c_string;
use crate::{Hook, Hooks, Refusal};

#[allow(deprecated)] // `prestart` is deprecated in the specification and still what podman and older hooks use.
pub(crate) fn plan(hooks: Option<&oci::Hooks>) -> Result<Hooks, Refusal> {
    let Some(hooks) = hooks else { return Ok(Hooks::default()) };
    Ok(Hooks {
        prestart: each("prestart", hooks.prestart().as_deref())?,
        create_runtime: each("createRuntime", hooks.create_runtime().as_deref())?,
        create_container: each("createContainer", hooks.create_container().as_deref())?,
        start_container: each("startContainer", hooks.start_container().as_deref())?,
        poststart: each("poststart", hooks.poststart().as_deref())?,
        poststop: each("poststop", hooks.poststop().as_deref())?,
    })
}

fn each(kind: &str, hooks: Option<&[oci::Hook]>) -> Result<Vec<Hook>, Refusal> {
    hooks
        .unwrap_or_default()
        .iter()
        .enumerate()
        .map(|(index, hook)| one(&format!("hooks.{kind}[{index}]"), hook))
        .collect()
}

fn one(field: &str, hook: &oci::Hook) -> Result<Hook, Refusal> {
    if !hook.path().is_absolute() {
        return Err(Refusal::new(
            format!("{field}.path"),
            format!("{} is not an absolute path", hook.path().display()),
        ));
    }
    let texts = |name: &str, listed: &[String]| {
        let field = format!("{field}.{name}");
        listed.iter().map(|text| c_string(&field, text.as_str())).collect::<Result<Vec<_>, _>>()
    };
    let path = c_string(&format!("{field}.path"), hook.path().as_os_str().as_encoded_bytes())?;
    let mut args = texts("args", hook.args().as_deref().unwrap_or_default())?;
    if args.is_empty() {
        args.push(path.clone());
    }
    let timeout =
        match hook.timeout() {
            None => None,
            Some(seconds) => Some(u64::try_from(seconds).ok().filter(|seconds| *seconds > 0).ok_or_else(|| {
                Refusal::new(format!("{field}.timeout"), format!("{seconds} is not greater than zero"))
            })?),
        };
    let env = hook.env().as_deref().map(|listed| texts("env", listed)).transpose()?;
    Ok(Hook { path, args, env, timeout })
}
