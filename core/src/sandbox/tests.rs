//! The order of sandboxes, and merging, over all that can be built.

use super::*;
use proptest::prelude::*;

fn roots() -> impl Strategy<Value = Option<Vec<String>>> {
    let root = prop_oneof![
        Just("/a"),
        Just("/a/"),
        Just("//a/."),
        Just("/b"),
        Just("/a/b"),
        Just("/a/../b"),
        Just("relative"),
        Just("/"),
        Just("C:\\x")
    ];
    proptest::option::of(proptest::collection::vec(root.prop_map(String::from), 0..4))
}

fn workspace() -> impl Strategy<Value = SandboxPolicy> {
    let flag = || proptest::option::of(any::<bool>());
    (roots(), flag(), flag(), flag()).prop_map(|(roots, network, tmpdir, slash_tmp)| {
        let mut policy = WorkspaceWriteSandboxPolicy::new();
        policy.writable_roots = roots;
        policy.network_access = network;
        policy.exclude_tmpdir_env_var = tmpdir;
        policy.exclude_slash_tmp = slash_tmp;
        SandboxPolicy::WorkspaceWrite(policy)
    })
}

fn policies() -> impl Strategy<Value = SandboxPolicy> {
    let read_only = proptest::option::of(any::<bool>()).prop_map(|network| {
        let mut policy = ReadOnlySandboxPolicy::new();
        policy.network_access = network;
        SandboxPolicy::ReadOnly(policy)
    });
    let other = prop_oneof![
        Just(SandboxPolicy::DangerFullAccess),
        Just(SandboxPolicy::ExternalSandbox(ExternalSandboxSandboxPolicy::new())),
        Just(serde_json::from_str(r#"{"type":"moonlight","phase":1}"#).expect("an open type")),
    ];
    prop_oneof![3 => workspace(), 2 => read_only, 1 => other]
}

fn sandboxes() -> impl Strategy<Value = Sandbox> {
    let flag = || proptest::option::of(any::<bool>());
    let level = prop_oneof![
        Just(Sandbox::read_only()),
        Just(Sandbox::workspace_write()),
        Just(Sandbox::full_access()),
        Just(Sandbox::external())
    ];
    (level, roots(), flag(), flag(), flag()).prop_map(|(mut sandbox, roots, network, tmpdir, slash_tmp)| {
        sandbox.writable_roots = roots.unwrap_or_default();
        sandbox.network = network;
        sandbox.exclude_tmpdir = tmpdir;
        sandbox.exclude_slash_tmp = slash_tmp;
        sandbox
    })
}

proptest! {
    #[test]
    fn sandboxes_are_ordered(a in policies(), b in policies(), c in policies()) {
        prop_assert!(is_at_most(&a, &a), "each is at most itself");
        if is_at_most(&a, &b) && is_at_most(&b, &c) {
            prop_assert!(is_at_most(&a, &c), "and the order goes on");
        }
        prop_assert_eq!(is_same(&a, &b), is_same(&b, &a));
    }

    #[test]
    fn what_grants_something_is_not_at_most_what_does_not(a in policies(), b in policies()) {
        prop_assume!(is_at_most(&a, &b));
        let network = |policy: &SandboxPolicy| match policy {
            SandboxPolicy::ReadOnly(policy) => policy.network_access == Some(true),
            SandboxPolicy::WorkspaceWrite(policy) => policy.network_access == Some(true),
            _ => true,
        };
        let writes = |policy: &SandboxPolicy| !matches!(policy, SandboxPolicy::ReadOnly(_));
        prop_assert!(network(&a) <= network(&b));
        prop_assert!(writes(&a) <= writes(&b));
        if let (SandboxPolicy::WorkspaceWrite(a), SandboxPolicy::WorkspaceWrite(b)) = (&a, &b) {
            prop_assert!(b.exclude_slash_tmp != Some(true) || a.exclude_slash_tmp == Some(true));
            prop_assert!(b.exclude_tmpdir_env_var != Some(true) || a.exclude_tmpdir_env_var == Some(true));
        }
    }

    /// What is merged in comes from the thread, so a sandbox that is at most the thread's stays so.
    #[test]
    fn merging_never_loosens_beyond_the_thread(own in policies(), asked in sandboxes()) {
        let alone = asked.clone().replace().policy(Some(&own));
        let merged = asked.policy(Some(&own));
        if is_at_most(&alone, &own) {
            // The thread's exclusions come with it, so only what was said of them can stand against it.
            prop_assert!(is_at_most(&merged, &own), "{:?}", asked);
        }
        prop_assert_eq!(alone, asked.policy(None), "replacing takes nothing over");
        prop_assert_eq!(asked.policy(Some(&own)), merged, "and it is always the same");
    }

    #[test]
    fn merging_keeps_the_folders_and_the_network_of_the_thread(own in workspace()) {
        let merged = Sandbox::workspace_write().policy(Some(&own));
        prop_assert!(is_same(&merged, &own));
        let read_only = Sandbox::read_only().policy(Some(&own));
        prop_assert!(is_at_most(&read_only, &own));
    }
}

#[test]
fn where_the_disk_would_have_to_be_asked_nothing_is_proved() {
    let of = |root: &str| SandboxPolicy::WorkspaceWrite(WorkspaceWriteSandboxPolicy::new().writable_roots([root]));
    assert!(is_at_most(&of("/a/./b/"), &of("//a/b")));
    for (this, other) in [("/a/b", "/a"), ("/a/../a", "/a"), ("a", "/a"), ("a/", "a"), ("/a", "/")] {
        assert!(!is_at_most(&of(this), &of(other)), "{this} {other}");
    }
}

#[test]
fn an_echo_may_have_more_folders_and_nothing_else() {
    let of = |text: &str| serde_json::from_str::<SandboxPolicy>(text).expect("a policy");
    let told = of(r#"{"type":"workspaceWrite"}"#);
    assert!(is_echo(&of(r#"{"type":"workspaceWrite","writableRoots":["/e"],"networkAccess":false}"#), &told));
    assert!(!is_echo(&of(r#"{"type":"workspaceWrite","networkAccess":true}"#), &told));
    assert!(!is_echo(&of(r#"{"type":"readOnly"}"#), &told));
    assert!(!is_echo(&told, &of(r#"{"type":"workspaceWrite","writableRoots":["/e"]}"#)));
}
