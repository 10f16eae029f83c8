// Scenarios against the real server with a scripted model behind it: accounts and logins. Included once for each runtime.

use crate::support::real_server_with;
use turnwire_testkit::model::{Reply, ScriptedModel};

/// Two access tokens of nobody, for the account `acc-1`, signed by nobody.
const OLD: &str = concat!(
    "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.",
    "eyJlbWFpbCI6InVzZXJAZXhhbXBsZS5jb20iLCJleHAiOjQxMDI0NDQ4MDAsImh0dHBzOi8vYXBpLm9wZW5haS5jb20vYXV0aCI6eyJjaGF0Z3B0X2FjY291bnRfaWQiOiJhY2MtMSIsImNoYXRncHRfcGxhbl90eXBlIjoicGx1cyIsImNoYXRncHRfdXNlcl9pZCI6InVzZXItMSIsIm4iOiJvbGQifX0",
    ".b2xk"
);
const NEW: &str = concat!(
    "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.",
    "eyJlbWFpbCI6InVzZXJAZXhhbXBsZS5jb20iLCJleHAiOjQxMDI0NDQ4MDAsImh0dHBzOi8vYXBpLm9wZW5haS5jb20vYXV0aCI6eyJjaGF0Z3B0X2FjY291bnRfaWQiOiJhY2MtMSIsImNoYXRncHRfcGxhbl90eXBlIjoicGx1cyIsImNoYXRncHRfdXNlcl9pZCI6InVzZXItMSIsIm4iOiJuZXcifX0",
    ".bmV3"
);

/// A provider that needs a login.
fn keyed(model: &ScriptedModel) -> String {
    format!(
        "[model_providers.keyed]\nname = \"keyed\"\nbase_url = \"{}\"\nwire_api = \"responses\"\nsupports_websockets = false\n\
         requires_openai_auth = true\nrequest_max_retries = 0\n",
        model.base_url()
    )
}

real_scenario! {
    fn au_01_au_06_au_08_a_key_reaches_the_model_limits_need_more_and_after_logout_there_is_no_account() {
        let Some(server) = real_server_with("au_01_a_key_reaches_the_model", keyed) else { return };
        server.model.push(Reply::text("With a key."));
        let command = server.command().config_text("model_provider", "keyed");
        let codex = wait!(rt::spawn(&command)).expect("the server starts");
        assert!(wait!(codex.account(false)).expect("read").account.is_none());
        let missing = wait!(codex.ensure_fresh_login()).expect_err("no login");
        assert!(matches!(missing, rt::AccountError::NeedsLogin(_)), "{missing}");
        wait!(codex.login_api_key("sk-test-turnwire")).expect("taken");
        let account = wait!(codex.ensure_fresh_login()).expect("good").account;
        assert!(matches!(account, Some(rt::protocol::Account::ApiKey)), "{account:?}");
        let thread = wait!(codex.thread_start(server.thread_start())).expect("a thread");
        let result = wait!(thread.run("Hello.")).expect("completed");
        assert_eq!(result.final_response.as_deref(), Some("With a key."));
        assert_eq!(server.model.requests()[0].header("authorization"), Some("Bearer sk-test-turnwire"));
        let limits = wait!(codex.rate_limits()).expect_err("a key has none");
        assert!(matches!(limits, rt::AccountError::NeedsLogin(_)), "{limits}");
        let mut events = codex.events();
        wait!(codex.logout()).expect("done");
        loop {
            match wait!(events.next()) {
                Some(rt::Event::Account(updated)) => break assert!(updated.auth_mode.is_none()),
                Some(_) => {}
                None => panic!("no update came"),
            }
        }
        assert!(wait!(codex.account(false)).expect("read").account.is_none());
        wait!(codex.close());
    }
}

real_scenario! {
    #[allow(clippy::await_holding_lock, reason = "each scenario has a thread of its own")]
    fn au_04_a_browser_login_has_an_address_and_is_cancelled_on_the_real_server() {
        let Some(server) = crate::support::real_server("au_04_a_browser_login") else { return };
        let _alone = crate::support::only_login();
        let codex = wait!(rt::spawn(&server.command())).expect("the server starts");
        let login = wait!(codex.login_browser()).expect("begun");
        assert!(login.auth_url().starts_with("https://") && !login.login_id().is_empty());
        assert!(!format!("{login:?}").contains("https://"));
        let waiting = go!([login] wait!(login.wait()));
        let status = wait!(login.cancel()).expect("answered");
        assert_eq!(status, rt::protocol::CancelLoginAccountStatus::Canceled);
        assert!(matches!(join!(waiting), Err(rt::LoginError::Cancelled)));
        wait!(codex.close());
    }
}

real_scenario! {
    #[allow(clippy::await_holding_lock, reason = "each scenario has a thread of its own")]
    fn au_04_a_second_login_cancels_the_first_on_the_real_server() {
        let Some(server) = crate::support::real_server("au_04_a_second_login") else { return };
        let _alone = crate::support::only_login();
        let codex = wait!(rt::spawn(&server.command())).expect("the server starts");
        let first = wait!(codex.login_browser()).expect("begun");
        let waiting = go!([first] wait!(first.wait()));
        let second = wait!(codex.login_browser()).expect("begun");
        assert_ne!(first.login_id(), second.login_id());
        assert!(matches!(join!(waiting), Err(rt::LoginError::Cancelled)));
        assert_eq!(wait!(first.cancel()).expect("answered"), rt::protocol::CancelLoginAccountStatus::NotFound);
        assert_eq!(wait!(second.cancel()).expect("answered"), rt::protocol::CancelLoginAccountStatus::Canceled);
        assert!(matches!(wait!(second.wait()), Err(rt::LoginError::Cancelled)));
        wait!(codex.close());
    }
}

real_scenario! {
    fn sr_19_a_refused_token_is_renewed_or_the_turn_fails_as_not_authorized_on_the_real_server() {
        let Some(server) = real_server_with("sr_19_a_refused_token_is_renewed", keyed) else { return };
        let command = server.command().config_text("model_provider", "keyed");
        for way in ["supplied", "failed", "nobody"] {
            let codex = wait!(rt::spawn(&command)).expect("the server starts");
            let _serving = (way != "nobody").then(|| serve!(codex, rt::Handlers::new().token_refresh(handler!([] |asked| {
                assert_eq!(asked.previous_account_id(), Some("acc-1"));
                match way {
                    "supplied" => asked.answer(&rt::Tokens::new("acc-1", NEW).plan_type("plus")),
                    _ => asked.fail("none left"),
                }
            }))));
            // Newer servers look the account up outside, which no test may; the tokens are taken all the same.
            match wait!(codex.login_tokens(rt::Tokens::new("acc-1", OLD).plan_type("plus"))) {
                Ok(()) | Err(rt::LoginError::Failed(_)) => {}
                Err(other) => panic!("{other}"),
            }
            let before = server.model.requests().len();
            server.model.on(|request| {
                let is_old = request.header("authorization").is_some_and(|given| given.contains(OLD));
                is_old.then(|| Reply::http_error(401, "token_expired", "the token has expired"))
            });
            server.model.set_default(Reply::text("With a new token."));
            let thread = wait!(codex.thread_start(server.thread_start())).expect("a thread");
            let result = wait!(thread.run("Hello."));
            let given: Vec<bool> = server.model.requests()[before..]
                .iter()
                .filter_map(|request| request.header("authorization").map(|given| given.contains(NEW)))
                .collect();
            if way == "supplied" {
                assert_eq!(result.expect("completed").final_response.as_deref(), Some("With a new token."));
                assert_eq!(given.last(), Some(&true), "{given:?}");
            } else {
                let failed = result.expect_err("the turn fails");
                let text = format!("{failed:?} {failed}");
                assert!(!text.contains(OLD) && !text.contains("eyJ"), "no token is shown: {text}");
                let rt::TurnError::Failed(report) = failed else { panic!("{text}") };
                // The server's kind is "other"; its text says what it is.
                let (info, said) = (report.error_info(), report.error_message().unwrap_or_default());
                assert!(said.contains("auth"), "{way}: {info:?} {said}");
                assert!(given.iter().all(|is_new| !is_new), "{given:?}");
            }
            wait!(codex.close());
        }
    }
}
