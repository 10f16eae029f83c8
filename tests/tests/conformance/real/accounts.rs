// Scenarios against the real server with a scripted model behind it: accounts and logins. Included once for each runtime.

use crate::support::real_server_with;
use turnwire_testkit::model::{Reply, ScriptedModel};

/// A provider that needs a login.
fn keyed(model: &ScriptedModel) -> String {
    format!(
        "[model_providers.keyed]\nname = \"keyed\"\nbase_url = \"{}\"\nwire_api = \"responses\"\nsupports_websockets = false\n\
         requires_openai_auth = true\nrequest_max_retries = 0\n",
        model.base_url()
    )
}

scenario! {
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

scenario! {
    fn au_04_a_browser_login_has_an_address_and_is_cancelled_on_the_real_server() {
        let Some(server) = crate::support::real_server("au_04_a_browser_login") else { return };
        let codex = wait!(rt::spawn(&server.command())).expect("the server starts");
        // The server listens on one port, which servers of other tests want too.
        let mut login = wait!(codex.login_browser());
        for _ in 0..200 {
            if login.is_ok() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
            login = wait!(codex.login_browser());
        }
        let login = login.expect("begun");
        assert!(login.auth_url().starts_with("https://") && !login.login_id().is_empty());
        assert!(!format!("{login:?}").contains("https://"));
        let waiting = go!([login] wait!(login.wait()));
        let status = wait!(login.cancel()).expect("answered");
        assert_eq!(status, rt::protocol::CancelLoginAccountStatus::Canceled);
        assert!(matches!(join!(waiting), Err(rt::LoginError::Cancelled)));
        wait!(codex.close());
    }
}
