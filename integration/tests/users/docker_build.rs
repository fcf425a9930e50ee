//! `docker build`, by the builder that runs its steps with the daemon's default runtime, which is the one under test.

use std::fs;

use anyhow::Result;
use integration::docker::IMAGE;

use crate::docker::with_both;

#[test]
fn docker_builds_an_image() -> Result<()> {
    with_both(|docker, face| {
        let tag = format!("built:{face:?}").to_lowercase();
        let context = docker.home.path("context");
        fs::create_dir_all(&context)?;
        fs::write(
            context.join("Dockerfile"),
            format!(
                "FROM {IMAGE}\nCOPY word /\nRUN cat /word > /built && id -u >> /built\nUSER 1000\nCMD [\"cat\", \"/built\"]\n"
            ),
        )?;
        fs::write(context.join("word"), "stone\n")?;
        let folder = docker.home.text("context");
        docker.say(&["build", "--network", "none", "--no-cache", "--quiet", "--tag", &tag, &folder])?.done();
        assert_eq!(docker.say(&["run", "--rm", "--network", "none", &tag])?.done(), "stone\n0\n");
        let failing = format!("FROM {IMAGE}\nRUN exit 6\n");
        fs::write(context.join("Dockerfile"), failing)?;
        let said = docker.say(&["build", "--network", "none", "--no-cache", &folder])?;
        assert!(said.code != Some(0) && said.err.contains("returned a non-zero code: 6"), "{said:?}");
        Ok(())
    })
}
