//! What the AWS tools are configured with: `~/.aws/config`, `~/.aws/credentials` and the environment. object_store
//! reads the environment alone.

use super::source::{Attempt, Fault};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use std::collections::HashMap;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

/// The settings of a profile.
type Profile = HashMap<String, String>;

/// A builder with all settings, and until when its credentials are valid.
pub(super) fn builder(bucket: &str) -> Attempt<(AmazonS3Builder, Option<Instant>)> {
    let profile = profile();
    let mut builder = AmazonS3Builder::from_env().with_bucket_name(bucket).with_allow_http(true);
    let environment = |names: &[&str]| names.iter().find_map(|name| std::env::var(name).ok().filter(|v| !v.is_empty()));
    let setting = |names: &[&str], key: &str| environment(names).or_else(|| profile.get(key).cloned());
    if let Some(endpoint) = setting(&["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"], "endpoint_url") {
        // The bucket is part of the path, unless the profile says otherwise: self-hosted servers understand that.
        builder = builder.with_endpoint(endpoint.trim_end_matches('/'));
    }
    let region = setting(&["AWS_REGION", "AWS_DEFAULT_REGION"], "region");
    builder = builder.with_region(region.unwrap_or_else(|| "us-east-1".into()));
    let mut until = None;
    if environment(&["AWS_ACCESS_KEY_ID"]).is_none() {
        let mut token = None;
        if let (Some(id), Some(secret)) = (profile.get("aws_access_key_id"), profile.get("aws_secret_access_key")) {
            builder = builder.with_access_key_id(id).with_secret_access_key(secret);
            token = profile.get("aws_session_token").cloned();
        } else if let Some(command) = profile.get("credential_process") {
            let found = from_process(command)?;
            builder = builder.with_access_key_id(found.access_key_id).with_secret_access_key(found.secret_access_key);
            token = found.session_token;
            until = found.valid.map(|valid| Instant::now() + valid);
        }
        if let Some(token) = token {
            builder = builder.with_token(token);
        }
    }
    if profile.get("s3_use_path_style").is_some_and(|value| value == "false") {
        builder = builder.with_virtual_hosted_style_request(true);
    }
    if environment(&["AWS_NO_SIGN_REQUEST"]).is_some_and(|value| value != "false" && value != "0") {
        builder = builder.with_config(AmazonS3ConfigKey::SkipSignature, "true");
    }
    Ok((builder, until))
}

/// The settings of `AWS_PROFILE`, by default `default`: of the configuration, and over them those of the credentials.
fn profile() -> Profile {
    let name = std::env::var("AWS_PROFILE").ok().filter(|v| !v.is_empty()).unwrap_or_else(|| "default".into());
    let read = |variable: &str, file: &str| {
        let given = std::env::var_os(variable).map(PathBuf::from);
        let path = given.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".aws").join(file)))?;
        std::fs::read_to_string(path).ok()
    };
    let mut profile = Profile::new();
    if let Some(text) = read("AWS_CONFIG_FILE", "config") {
        profile.extend(section(&text, &[&name, &format!("profile {name}")]));
    }
    if let Some(text) = read("AWS_SHARED_CREDENTIALS_FILE", "credentials") {
        profile.extend(section(&text, &[&name]));
    }
    profile
}

/// The settings of a section. Nested settings (the indented lines below `s3 =`) are left out.
fn section(text: &str, names: &[&str]) -> Profile {
    let mut inside = false;
    let mut found = Profile::new();
    for line in text.lines() {
        let bare = line.trim();
        if bare.is_empty() || bare.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = bare.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
            let name = name.split_whitespace().collect::<Vec<_>>().join(" ");
            inside = names.contains(&name.as_str());
        } else if let Some((key, value)) = bare.split_once('=').filter(|_| inside && !line.starts_with([' ', '\t'])) {
            found.insert(key.trim().to_ascii_lowercase(), value.trim().to_owned());
        }
    }
    found
}

/// What a `credential_process` prints.
#[derive(serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Printed {
    access_key_id: String,
    secret_access_key: String,
    session_token: Option<String>,
    expiration: Option<String>,
    #[serde(skip)]
    valid: Option<Duration>,
}

fn from_process(command: &str) -> Attempt<Printed> {
    // What it prints is a secret: errors do not show it.
    let failed = |why: String| Fault::Refused(format!("the credential_process of ~/.aws/config failed: {why}"));
    let output = Command::new("sh").arg("-c").arg(command).output().map_err(|e| failed(e.to_string()))?;
    if !output.status.success() {
        return Err(failed(output.status.to_string()));
    }
    let mut printed: Printed =
        serde_json::from_slice(&output.stdout).map_err(|_| failed("it did not print credentials".into()))?;
    printed.valid = printed.expiration.as_deref().and_then(|at| at.parse::<jiff::Timestamp>().ok()).map(|at| {
        let seconds = at.as_second() - jiff::Timestamp::now().as_second() - 60;
        Duration::from_secs(seconds.max(0) as u64)
    });
    Ok(printed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_read_from_its_section_alone() {
        let text = "[default]\nregion = one\n[profile  two]\nregion=two\n; x = y\ns3 =\n  endpoint_url = nested\n\
                    endpoint_url = http://localhost:9000\n[three]\nregion = three\n";
        let two = section(text, &["two", "profile two"]);
        assert_eq!((two["region"].as_str(), two["endpoint_url"].as_str()), ("two", "http://localhost:9000"));
        assert_eq!(section(text, &["default"])["region"], "one");
        assert!(section(text, &["four"]).is_empty());
    }

    #[test]
    fn a_credential_process_is_run_and_its_output_never_shown() {
        let good = from_process(r#"echo '{"Version": 1, "AccessKeyId": "a", "SecretAccessKey": "hunter2"}'"#);
        let good = good.ok().unwrap();
        assert_eq!((good.access_key_id.as_str(), good.secret_access_key.as_str()), ("a", "hunter2"));
        for bad in ["echo hunter2", "echo hunter2; exit 3"] {
            let Err(Fault::Refused(why)) = from_process(bad) else { panic!("{bad}") };
            assert!(!why.contains("hunter2"), "{why}");
        }
    }
}
