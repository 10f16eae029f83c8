// Scenarios against the scripted server, a fake: accounts and logins. Included once for each runtime.

use crate::support::scripted;
use rt::protocol::ThreadStart;
use serde_json::json;
use std::time::Duration;
use turnwire_testkit::scripted::{Rule, Script};

scenario! {
    fn au_02_a_device_code_login_has_url_and_code_and_its_end_is_not_missed_though_it_comes_first() {
        let ended = json!({"loginId": "L", "success": true, "error": null});
        let rule = Rule::on("account/login/start")
            .notify("account/login/completed", json!({"loginId": "M", "success": false, "error": "no"}))
            .notify("account/login/completed", ended)
            .reply(json!({"type": "chatgptDeviceCode", "loginId": "L", "verificationUrl": "https://x.invalid/d", "userCode": "AB-12"}));
        let server = scripted(&Script::new().rule(rule));
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let login = wait!(codex.login_device_code()).expect("begun");
        assert_eq!((login.login_id(), login.verification_url(), login.user_code()), ("L", "https://x.invalid/d", "AB-12"));
        assert!(!format!("{login:?}").contains("AB-12"));
        wait!(login.wait()).expect("done");
        wait!(login.wait()).expect("and again");
        drop(login);
        assert_eq!(codex.counters().logins, 0);
        wait!(codex.close());
    }
}

scenario! {
    fn au_04_a_cancelled_login_ends_a_parallel_wait_as_cancelled() {
        let script = Script::new()
            .rule(Rule::on("account/login/start").reply(json!({"type": "chatgpt", "loginId": "L", "authUrl": "https://x.invalid"})))
            .rule(Rule::on("account/login/cancel").nth(1).reply(json!({"status": "canceled"})).notify(
                "account/login/completed",
                json!({"loginId": "L", "success": false, "error": "Login server error: Login was not completed"}),
            ))
            .rule(Rule::on("account/login/cancel").reply(json!({"status": "notFound"})));
        let server = scripted(&script);
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let login = wait!(codex.login_browser()).expect("begun");
        let waiting = go!([login] wait!(login.wait()));
        let status = wait!(login.cancel()).expect("answered");
        assert_eq!(status, rt::protocol::CancelLoginAccountStatus::Canceled);
        assert!(matches!(join!(waiting), Err(rt::LoginError::Cancelled)));
        let again = wait!(login.cancel()).expect("answered");
        assert_eq!(again, rt::protocol::CancelLoginAccountStatus::NotFound);
        wait!(codex.close());
    }
}

scenario! {
    fn au_04_a_second_login_cancels_the_first_and_each_wait_ends_as_its_own() {
        let begun = |id: &str| json!({"type": "chatgpt", "loginId": id, "authUrl": "https://x.invalid"});
        let ended = |id: &str, error: Option<&str>| json!({"loginId": id, "success": error.is_none(), "error": error});
        let replaced = ended("A", Some("Login server error: Login was not completed"));
        // The server says so before it answers, after, or after the second has ended.
        for way in 0..3 {
            let mut second = Rule::on("account/login/start");
            second = match way {
                0 => second.notify("account/login/completed", replaced.clone()).reply(begun("B")),
                _ => second.reply(begun("B")),
            };
            second = match way {
                1 => second.notify("account/login/completed", replaced.clone()),
                _ => second,
            };
            second = second.notify("account/login/completed", ended("B", None));
            if way == 2 {
                second = second.notify("account/login/completed", replaced.clone());
            }
            let first = Rule::on("account/login/start").nth(1).reply(begun("A"));
            let server = scripted(&Script::new().rule(first).rule(second));
            let codex = wait!(rt::spawn(&server.command())).expect("connects");
            let first = wait!(codex.login_browser()).expect("begun");
            let waiting = go!([first] wait!(first.wait()));
            let second = wait!(codex.login_browser()).expect("begun");
            assert_eq!((first.login_id(), second.login_id()), ("A", "B"));
            wait!(second.wait()).expect("done");
            assert!(matches!(join!(waiting), Err(rt::LoginError::Cancelled)), "{way}");
            wait!(codex.close());
        }
    }
}

scenario! {
    fn au_01_a_key_that_the_server_quotes_is_in_no_error() {
        let secret = "sk-very-secret";
        let quote = format!("Incorrect API key provided: {secret}.");
        let start = || Rule::on("account/login/start");
        let script = Script::new()
            .rule(start().nth(1).reply_error_data(-32600, quote.clone(), json!({"key": secret, "more": [secret]})))
            .rule(start().nth(2).reply(json!({"type": "apiKey"})).notify(
                "account/login/completed",
                json!({"loginId": null, "success": false, "error": quote}),
            ))
            .rule(start().nth(3).reply(json!([secret])))
            .rule(start().reply_error(-32600, quote.clone()));
        let server = scripted(&script);
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        for time in 0..4 {
            let start = std::time::Instant::now();
            let outcome = match time {
                3 => wait!(codex.login_tokens(rt::Tokens::new("acc", secret))),
                _ => wait!(codex.login_api_key(secret)),
            };
            let error = outcome.expect_err("refused");
            let mut shown = format!("{error} {error:?}");
            let mut source = std::error::Error::source(&error);
            while let Some(cause) = source {
                shown.push_str(&format!("{cause} {cause:?}"));
                source = cause.source();
            }
            if let rt::LoginError::Call(call) = &error {
                shown.push_str(&match &call.fault {
                    rt::Fault::Rpc(error) => format!("{} {:?}", error.message, error.data.as_ref().map(|data| data.as_str().to_owned())),
                    rt::Fault::Decode { raw, .. } => raw.as_str().to_owned(),
                    _ => String::new(),
                });
            }
            assert!(!shown.contains("very-secret"), "{time}: {shown}");
            assert_eq!(shown.contains("Incorrect API key"), time != 2, "the rest is said: {shown}");
            assert!(start.elapsed() < Duration::from_secs(20), "{time}: none of them is waited for any longer");
        }
        wait!(codex.close());
    }
}

scenario! {
    fn a_login_ends_at_its_deadline_and_with_the_server() {
        let script = Script::new()
            .rule(Rule::on("account/login/start").reply(json!({"type": "chatgpt", "loginId": "$new_id", "authUrl": "https://x.invalid"})));
        let server = scripted(&script);
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let timed = wait!(codex.login_browser()).expect("begun").deadline(Duration::from_millis(50));
        assert!(wait!(timed.wait()).expect_err("not in time").is_timeout());
        let open = wait!(codex.login_browser()).expect("begun");
        let waiting = go!([open] wait!(open.wait()));
        wait!(codex.close());
        assert!(join!(waiting).expect_err("closed").is_closed());
    }
}

scenario! {
    fn au_01_a_key_is_taken_when_the_server_says_so_and_is_in_no_debug_text() {
        let ended = |success: bool| json!({"loginId": null, "success": success, "error": if success { None } else { Some("bad") }});
        let script = Script::new()
            .rule(Rule::on("account/login/start").nth(1).reply(json!({"type": "apiKey"})).notify("account/login/completed", ended(true)))
            .rule(Rule::on("account/login/start").notify("account/login/completed", ended(false)).reply(json!({"type": "apiKey"})));
        let server = scripted(&script);
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let key = rt::Secret::new("sk-very-secret");
        assert!(!format!("{key:?}").contains("secret-"));
        wait!(codex.login_api_key(key)).expect("taken");
        let failed = wait!(codex.login_api_key("sk-very-secret")).expect_err("not taken");
        assert!(matches!(&failed, rt::LoginError::Failed(text) if &**text == "bad"), "{failed}");
        let sent = server.received_of("account/login/start", 2);
        assert_eq!(sent[0], json!({"type": "apiKey", "apiKey": "sk-very-secret"}));
        wait!(codex.close());
    }
}

scenario! {
    fn au_08_limits_are_typed_and_so_is_the_want_of_a_login_and_updates_are_events() {
        let limits = json!({"limitId": "codex", "primary": {"usedPercent": 12, "windowDurationMins": 300, "resetsAt": 1}});
        let script = Script::new()
            .rule(Rule::on("account/rateLimits/read").nth(1).reply_error(-32600, "chatgpt authentication required to read rate limits"))
            .rule(Rule::on("account/rateLimits/read").reply(json!({"rateLimits": limits})).notify("account/rateLimits/updated", json!({"rateLimits": limits})));
        let server = scripted(&script);
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let mut events = codex.events();
        let error = wait!(codex.rate_limits()).expect_err("no login");
        assert!(matches!(error, rt::AccountError::NeedsLogin(_)), "{error}");
        let read = wait!(codex.rate_limits()).expect("read");
        assert_eq!(read.rate_limits.primary.map(|window| window.used_percent), Some(12));
        loop {
            match wait!(events.next()) {
                Some(rt::Event::RateLimits(updated)) => {
                    assert_eq!(updated.rate_limits.primary.map(|window| window.used_percent), Some(12));
                    break;
                }
                Some(_) => {}
                None => panic!("no update came"),
            }
        }
        wait!(codex.close());
    }
}

scenario! {
    fn au_09_a_fresh_login_is_one_read_with_refresh_and_a_thread_start_reads_none() {
        let account = json!({"account": {"type": "apiKey"}, "requiresOpenaiAuth": true});
        let none = json!({"account": null, "requiresOpenaiAuth": true});
        let script = Script::new()
            .rule(Rule::on("account/read").nth(1).reply(account))
            .rule(Rule::on("account/read").reply(none));
        let server = scripted(&script);
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let thread = wait!(codex.thread_start(ThreadStart::new())).expect("a thread");
        wait!(thread.run("Hi.")).expect("completed");
        assert!(!server.received().iter().any(|line| line["method"] == "account/read"));
        wait!(codex.ensure_fresh_login()).expect("good");
        assert_eq!(server.received_of("account/read", 1), [json!({"refreshToken": true})]);
        let error = wait!(codex.ensure_fresh_login()).expect_err("none");
        assert!(matches!(error, rt::AccountError::NeedsLogin(_)), "{error}");
        wait!(codex.close());
    }
}

scenario! {
    fn au_06_a_logout_is_seen() {
        let rule = Rule::on("account/logout").reply(json!({})).notify("account/updated", json!({"authMode": null, "planType": null}));
        let server = scripted(&Script::new().rule(rule));
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let mut events = codex.events();
        wait!(codex.logout()).expect("done");
        loop {
            match wait!(events.next()) {
                Some(rt::Event::Account(updated)) => break assert!(updated.auth_mode.is_none()),
                Some(_) => {}
                None => panic!("no update came"),
            }
        }
        wait!(codex.close());
    }
}
