;; The driver: it hands a turn's messages to a plugin that has no `turn-handler`. It is put beside the
;; plugin when the plugin is loaded, and calls the plugin's own `on-message` for each message, so
;; that the guest is entered once for all of them.
;;
;; `tests/generated` makes the component `generated/turn_driver.wasm` of it.
(module
  (import "jackfield:plugin/handler@0.1.0" "on-message"
    (func $on_message (param $client i32) (param $client_bytes i32)
      (param $is_binary i32) (param $message i32) (param $message_bytes i32)))
  (import "jackfield:plugin/turns@0.1.0" "next" (func $next (result i64)))

  ;; One page, which the node does not exceed: it holds a client's id and the messages of one turn.
  (memory (export "memory") 1 1)
  (global $used (mut i32) (i32.const 0))

  ;; Nothing is freed before the turn is over, and nothing has an alignment.
  (func (export "cabi_realloc")
    (param $old i32) (param $old_bytes i32) (param $align i32) (param $bytes i32) (result i32)
    (local $at i32)
    (local.set $at (global.get $used))
    (global.set $used (i32.add (local.get $at) (local.get $bytes)))
    (if (i32.gt_u (global.get $used) (i32.const 65536)) (then (unreachable)))
    (local.get $at))

  (func (export "jackfield:plugin/turn-handler@0.1.0#on-turn")
    (param $client i32) (param $client_bytes i32) (param $messages i32) (param $messages_bytes i32)
    (local $place i64)
    (loop $more
      (local.set $place (call $next))
      (if (i64.ne (local.get $place) (i64.const -1))
        (then
          (call $on_message
            (local.get $client)
            (local.get $client_bytes)
            (i32.and (i32.wrap_i64 (i64.shr_u (local.get $place) (i64.const 31))) (i32.const 1))
            (i32.add
              (local.get $messages)
              (i32.wrap_i64 (i64.shr_u (local.get $place) (i64.const 32))))
            (i32.and (i32.wrap_i64 (local.get $place)) (i32.const 0x7fffffff)))
          (br $more))))
    (global.set $used (i32.const 0)))
)
