// Scenarios against the real server with a scripted model behind it: threads of sub-agents. Included once for each
// runtime.

use crate::support::real_server;
use serde_json::json;
use turnwire_testkit::model::{Gate, Reply};

real_scenario! {
    fn rt_02_a_sub_agent_of_the_real_server_is_followed_in_the_tree_and_leaves_its_parent_alone() {
        let Some(server) = real_server("rt_02_a_sub_agent_of_the_real_server") else { return };
        let task = "Count the windows.";
        let gate = Gate::new();
        let held = gate.clone();
        server.model.on(move |request| {
            // The task reaches the child in an item of a kind of its own.
            let is_child = !request.has_text("Delegate it.") && request.body().to_string().contains(task);
            is_child.then(|| Reply::new().hold(&held).final_answer("Seven."))
        });
        let spawn = json!({"message": task});
        server.model.push(Reply::new().namespaced_call("multi_agent_v1", "spawn_agent", &spawn));
        let parents = Gate::new();
        server.model.push(Reply::new().hold(&parents).final_answer("There are seven."));
        let codex = wait!(rt::spawn(&server.command())).expect("the server starts");
        let thread = wait!(codex.thread_start(server.thread_start())).expect("a thread");
        let mut tree = thread.tree();
        let turn = wait!(thread.turn("Delegate it.")).expect("a turn");
        let (mut childs_text, mut ended) = (String::new(), Vec::new());
        loop {
            let event = wait!(tree.next()).expect("the tree lasts as long as the session");
            let id = event.thread.expect("nothing is left out");
            let is_child = id != *thread.id();
            assert_eq!(event.parent.as_ref(), is_child.then_some(thread.id()), "{:?}", event.event);
            match event.event {
                rt::Event::Started(_) if is_child => gate.open(),
                rt::Event::Delta(delta) if is_child => childs_text.push_str(&delta.text),
                rt::Event::Other(raw) if &*raw.method == "turn/completed" => {
                    ended.push(is_child);
                    if !is_child {
                        break;
                    }
                    parents.open();
                }
                _ => {}
            }
        }
        assert_eq!((childs_text.as_str(), ended), ("Seven.", vec![true, false]));
        let result = wait!(turn.result()).expect("completed");
        assert_eq!(result.final_response.as_deref(), Some("There are seven."));
        assert_eq!(thread.children().len(), 1);
        wait!(codex.close());
    }
}
