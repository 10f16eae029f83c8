// Scenarios against the scripted server, a fake: threads of sub-agents. Included once for each runtime.

use crate::support::scripted;
use rt::protocol::ThreadStart;
use serde_json::json;
use turnwire_testkit::scripted::{Rule, Script};

scenario! {
    fn rt_02_the_tree_of_a_thread_has_the_events_of_its_sub_agents_by_child_and_parent() {
        let spawned = json!({"type": "collabAgentToolCall", "id": "s", "tool": "spawnAgent", "status": "completed",
            "senderThreadId": "$thread", "receiverThreadIds": ["child"], "agentsStates": {}});
        let below = json!({"type": "subAgentActivity", "id": "a", "kind": "started", "agentThreadId": "grandchild",
            "agentPath": "/root/child/grandchild"});
        let said = json!({"threadId": "grandchild", "turnId": "G", "itemId": "m", "delta": "From below."});
        let turn = Rule::on("turn/start").reply(json!({"turn": {"id": "$new_turn", "status": "inProgress"}}))
            .notify("thread/status/changed", json!({"threadId": "child", "status": {"type": "idle"}}))
            .notify("item/completed", json!({"threadId": "$thread", "turnId": "$turn", "item": spawned}))
            .notify("turn/started", json!({"threadId": "child", "turn": {"id": "C", "rootTurnId": "$turn"}}))
            .notify("item/completed", json!({"threadId": "child", "turnId": "C", "item": below}))
            .notify("item/agentMessage/delta", said)
            .notify("turn/completed", json!({"threadId": "child", "turn": {"id": "C", "status": "completed"}}))
            .notify("turn/completed", json!({"threadId": "$thread", "turn": {"id": "$turn", "status": "completed"}}));
        let server = scripted(&Script::new().rule(turn));
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let thread = wait!(codex.thread_start(ThreadStart::new())).expect("a thread");
        let mut tree = thread.tree();
        let result = wait!(thread.run("Delegate.")).expect("completed");
        assert_eq!(result.items.len(), 1, "the children's items are theirs");
        let root = thread.id().clone();
        let (mut order, mut text) = (Vec::new(), String::new());
        loop {
            let Some(event) = wait!(tree.next()) else { panic!("the tree lasts as long as the session") };
            let thread = event.thread.expect("nothing is left out");
            match (thread.as_str(), event.parent) {
                (id, None) => assert_eq!(id, root.as_str()),
                ("child", Some(parent)) => assert_eq!(parent, root),
                ("grandchild", Some(parent)) => assert_eq!(parent.as_str(), "child"),
                other => panic!("{other:?}"),
            }
            match event.event {
                rt::Event::Delta(delta) => text.push_str(&delta.text),
                rt::Event::Other(raw) if &*raw.method == "turn/completed" => {
                    order.push(thread.clone());
                    if thread == root {
                        break;
                    }
                }
                _ => {}
            }
        }
        assert_eq!(order.iter().map(|id| id.as_str()).collect::<Vec<_>>(), ["child", root.as_str()]);
        assert_eq!(text, "From below.");
        assert_eq!(thread.children().iter().map(|id| id.as_str()).collect::<Vec<_>>(), ["child"]);
        assert_eq!(codex.thread("grandchild").parent().expect("a parent").as_str(), "child");
        wait!(codex.close());
        assert!(wait!(tree.next()).is_none(), "it ends with the session");
    }
}
