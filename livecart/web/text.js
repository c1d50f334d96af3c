// Every word that the pages say, in Traditional Chinese and English, and the choice between them.
//
// A string of two languages is one row. `{name}` is filled in by t(); markup is never used.

/** Page language: any Chinese reader gets Traditional Chinese, everybody else English. */
export const language = navigator.language.toLowerCase().startsWith("zh") ? "zh-Hant" : "en";

const TEXT = {
  // both pages
  status_scheduled: ["尚未開播", "Not started"],
  status_live: ["直播中", "Live"],
  status_ended: ["已結束", "Ended"],
  viewers: ["{n} 人在線上", "{n} watching"],
  line_idle: ["未連線", "Not connected"],
  line_connecting: ["連線中…", "Connecting…"],
  line_open: ["已連線", "Connected"],
  line_waiting: ["連線中斷，{s} 秒後重試", "Connection lost, trying again in {s} s"],
  line_stopped: ["已停止連線", "Disconnected"],
  stop_4400: ["這個頁面與伺服器不相容，請重新載入。", "This page and the server do not understand each other. Please reload."],
  stop_4401: ["登入已失效，請從原本的連結重新進入。", "Your sign-in has expired. Please open your link again."],
  stop_4403: ["你無法進入這個直播間。", "You cannot enter this stream."],
  stop_4404: ["找不到這個直播間。", "There is no such stream."],
  stop_4413: ["這個頁面送出的資料太大，請重新載入。", "This page sent too much at once. Please reload."],
  draining: ["伺服器即將更新，會自動重新連線。", "The server is about to restart; the page reconnects by itself."],
  left: ["剩 {left} 件，共 {quantity} 件", "{left} of {quantity} left"],
  per_viewer: ["每人限購 {n} 件", "Limit {n} per person"],
  offer_draft: ["草稿", "Draft"],
  offer_scheduled: ["即將開賣", "Coming up"],
  offer_open: ["開賣中", "On sale"],
  offer_paused: ["暫停販售", "Paused"],
  offer_sold_out: ["已售完", "Sold out"],
  offer_closed: ["已結束", "Closed"],
  order_reserved: ["待付款", "Awaiting payment"],
  order_confirmed: ["已成立", "Confirmed"],
  order_shipped: ["已出貨", "Shipped"],
  order_expired: ["已逾時", "Expired"],
  order_cancelled: ["已取消", "Cancelled"],
  order_refunded: ["已退款", "Refunded"],
  rank: ["第 {n} 位", "No. {n}"],
  chat: ["聊天室", "Chat"],
  chat_label: ["留言", "Message"],
  chat_placeholder: ["說點什麼…", "Say something…"],
  send: ["送出", "Send"],
  chat_too_long: ["留言最多 300 字。", "A message has at most 300 characters."],
  chat_empty: ["新留言會出現在這裡。", "New messages appear here."],
  cancel_order: ["取消訂單", "Cancel order"],
  cancel_sure: ["確定要取消這筆訂單嗎？", "Cancel this order?"],
  loading: ["載入中…", "Loading…"],
  // viewer
  on_sale: ["商品", "Products"],
  nothing_yet: ["主播還沒有介紹商品。", "The host has not shown a product yet."],
  pinned: ["主播介紹中", "Shown now"],
  watch: ["觀看影片", "Watch the video"],
  opens_in: ["開賣倒數 {time}", "Opens in {time}"],
  closes_in: ["{time} 後結束", "Closes in {time}"],
  opening: ["即將開賣…", "Opening…"],
  qty: ["數量", "Quantity"],
  less: ["減少數量", "One less"],
  more: ["增加數量", "One more"],
  buy: ["購買 {amount}", "Buy {amount}"],
  buying: ["搶購中…", "Buying…"],
  buying_again: ["連線中斷，恢復後會自動確認，不會重複下單…", "Connection lost; we will ask again by ourselves and never order twice…"],
  wait: ["加入候補", "Join the waitlist"],
  leave_waitlist: ["取消候補", "Leave the waitlist"],
  waitlisted: ["候補中，第 {n} 位", "On the waitlist, position {n}"],
  limit_used: ["已達限購數量", "Your limit is used"],
  wait_live: ["尚未開播", "Not started"],
  guest_cannot_buy: ["訪客無法購買，請用你的專屬連結進入。", "Guests cannot buy. Please use your personal link."],
  not_a_buyer: ["這個身分無法購買。", "This role cannot buy."],
  got_reserved: ["搶到了！已保留 {qty} 件，請在 {time} 前完成付款。", "Yours! {qty} reserved; please pay before {time}."],
  got_confirmed: ["搶到了！訂單已成立，共 {qty} 件。", "Yours! Order confirmed, {qty} in all."],
  got_other: ["這筆訂單目前的狀態：{status}", "This order is now: {status}"],
  my_orders: ["我的訂單", "My orders"],
  no_orders: ["還沒有訂單。", "No orders yet."],
  pay_within: ["請在 {time} 內付款", "Pay within {time}"],
  hold_over: ["保留時間已到，確認中…", "Time is up, checking…"],
  guest_cannot_chat: ["訪客無法留言。", "Guests cannot write here."],
  muted: ["你已被禁言。", "You are muted."],
  unmuted: ["你可以留言了。", "You may write again."],
  muted_until: ["你已被禁言至 {time}。", "You are muted until {time}."],
  as_guest: ["以訪客身分觀看", "Watch as a guest"],
  reactions: ["傳送心情", "React"],
  react_like: ["讚", "Like"],
  react_love: ["愛心", "Love"],
  react_laugh: ["哈哈", "Laugh"],
  react_wow: ["哇", "Wow"],
  react_clap: ["拍手", "Clap"],
  // why something was refused
  code_bad_request: ["這個要求的格式不正確。", "That request was not well formed."],
  code_unknown_type: ["伺服器不認得這個動作。", "The server does not know this action."],
  code_unauthenticated: ["請先登入。", "Please sign in first."],
  code_forbidden: ["你沒有權限這麼做。", "You may not do that."],
  code_muted: ["你已被禁言。", "You are muted."],
  code_not_found: ["找不到這個項目。", "That could not be found."],
  code_not_live: ["直播還沒開始。", "The stream has not started."],
  code_not_open: ["這個商品目前未開賣。", "This offer is not open."],
  code_closed: ["這個商品已結束販售。", "This offer is closed."],
  code_sold_out: ["來不及了，剩下的數量不夠。", "Too late: not enough left."],
  code_limit_reached: ["超過每人限購數量。", "That is more than your limit."],
  code_conflict: ["目前的狀態無法這麼做。", "That is not possible in its present state."],
  code_too_large: ["內容太大。", "That is too large."],
  code_key_reused: ["這次購買與先前的不同，請再按一次。", "This differs from the earlier purchase; please press again."],
  code_rate_limited: ["操作太快了，請稍候。", "Too fast; please wait a moment."],
  code_internal: ["伺服器發生錯誤。", "Something broke on our side."],
  code_retry: ["結果尚未確定。", "The outcome is not known yet."],
  code_unknown: ["無法確認結果。請看「我的訂單」；再按一次也不會重複下單。", "We could not learn the outcome. See “My orders”; pressing again will not order twice."],
  code_unreachable: ["連不上伺服器。", "The server cannot be reached."],
  // checkout
  checkout: ["結帳", "Checkout"],
  to_pay: ["應付金額", "To pay"],
  pay: ["付款", "Pay"],
  ship_to: ["寄送資料", "Ship to"],
  field_name: ["姓名", "Name"],
  field_phone: ["電話", "Phone"],
  field_address: ["地址", "Address"],
  field_city: ["城市", "City"],
  field_zip: ["郵遞區號", "Postal code"],
  field_country: ["國家（兩個字母，如 TW）", "Country (two letters)"],
  pay_through: ["付款方式", "Pay through"],
  pay_at_shop: ["請直接向賣家付款。", "Please pay the shop directly."],
  paid_thanks: ["已付款，謝謝！", "Paid. Thank you!"],
  nothing_to_pay: ["這些訂單已經不需要付款。", "None of these orders waits for a payment."],
  payment_waits: ["等待付款確認…", "Waiting for the payment to come in…"],
  link_bad: ["這個連結無效或已過期，請向賣家索取新的連結。", "This link is not valid, or has expired. Please ask the shop for a new one."],
  // host
  host_title: ["主播控制台", "Host panel"],
  sign_in: ["登入", "Sign in"],
  sign_out: ["登出", "Sign out"],
  token_label: ["主播權杖（token）", "Host token"],
  token_hint: ["用 livecart token --role host 取得。只保留在這個分頁。", "Get one with: livecart token --role host. It is kept in this tab only."],
  token_unreadable: ["這不是有效的權杖。", "That is not a token."],
  token_not_host: ["這個權杖的身分是 {role}，不是主播。", "This token is for a {role}, not a host."],
  token_bad: ["權杖無效或已過期，請重新登入。", "The token is bad or has expired. Please sign in again."],
  shop_of: ["商店 {shop}", "Shop {shop}"],
  streams: ["直播場次", "Streams"],
  no_streams: ["還沒有直播。請先建立一場。", "No streams yet. Create one first."],
  new_stream: ["建立直播", "New stream"],
  field_title: ["標題", "Title"],
  field_starts_at: ["預計開播時間（可不填）", "Planned start (optional)"],
  field_playback: ["影片網址（可不填）", "Video URL (optional)"],
  create: ["建立", "Create"],
  created: ["已建立。", "Created."],
  go_live: ["開始直播", "Go live"],
  end_stream: ["結束直播", "End stream"],
  end_sure: ["確定要結束直播嗎？所有商品會停止販售，而且無法重新開始。", "End the stream? Every offer closes, and it cannot be started again."],
  viewer_page: ["觀眾頁面", "Viewer page"],
  offers: ["限量商品", "Offers"],
  no_offers: ["還沒有限量商品。", "No offers yet."],
  new_offer: ["建立限量商品", "New offer"],
  field_product: ["商品", "Product"],
  field_price: ["售價（{currency}）", "Price ({currency})"],
  field_list_price: ["定價", "List price"],
  field_quantity: ["數量", "Quantity"],
  field_per_viewer: ["每人限購", "Limit per person"],
  field_hold_s: ["付款期限（秒）", "Time to pay (seconds)"],
  field_payment: ["付款", "Payment"],
  payment_required: ["需要付款", "Required"],
  payment_none: ["不需付款，直接成立", "None: confirmed at once"],
  field_opens_at: ["開賣時間（可不填）", "Opens at (optional)"],
  field_closes_at: ["結束時間（可不填）", "Closes at (optional)"],
  field_sku: ["貨號（SKU）", "SKU"],
  field_currency: ["幣別", "Currency"],
  field_description: ["說明（可不填）", "Description (optional)"],
  field_image: ["圖片網址（https，可不填）", "Image URL (https, optional)"],
  price_bad: ["金額不正確：{currency} 最多 {digits} 位小數。", "Not an amount: {currency} has at most {digits} decimals."],
  need_product: ["請先建立商品。", "Create a product first."],
  left_now: ["剩餘", "Left"],
  reserved_now: ["待付款", "Held"],
  confirmed_now: ["已成立", "Sold"],
  total_now: ["總數", "Total"],
  open_offer: ["開賣", "Open"],
  pause_offer: ["暫停販售", "Pause"],
  resume_offer: ["恢復販售", "Resume"],
  close_offer: ["結束販售", "Close"],
  close_sure: ["確定要結束販售嗎？", "Close this offer?"],
  restock: ["補貨", "Restock"],
  restock_ask: ["增加幾件？", "How many to add?"],
  set_quantity: ["修改總數", "Set total"],
  quantity_ask: ["總數改為幾件？（不能少於已賣出的）", "New total? (not below what is taken)"],
  quantity_taken: ["總數不能少於已售出與待付款的件數。", "The total cannot be below what is sold and held."],
  pin: ["置頂", "Pin"],
  unpin: ["取消置頂", "Unpin"],
  opens_at: ["{time} 開賣", "opens {time}"],
  pins: ["置頂商品", "Pinned"],
  no_pins: ["沒有置頂商品。", "Nothing pinned."],
  products: ["商品目錄", "Products"],
  no_products: ["還沒有商品。", "No products yet."],
  new_product: ["建立商品", "New product"],
  orders: ["訂單", "Orders"],
  no_orders_host: ["還沒有訂單。", "No orders yet."],
  newest: ["最新 {n} 筆", "Newest {n}"],
  field_status: ["狀態", "Status"],
  status_all: ["全部", "All"],
  mark_paid: ["標示已付款", "Mark paid"],
  buyer: ["買家 {id}", "Buyer {id}"],
  paid: ["已標示付款。", "Marked as paid."],
  moderate: ["管理 {name} 的留言", "Moderate {name}"],
  mute: ["禁言", "Mute"],
  unmute: ["解除禁言", "Unmute"],
  ban: ["封鎖", "Ban"],
  ban_sure: ["確定要封鎖 {name}？對方會立刻離開直播間。", "Ban {name}? They are removed from the stream at once."],
  remove: ["刪除", "Remove"],
  done: ["完成。", "Done."],
  whole_number: ["請輸入整數。", "Please enter a whole number."],
};

/** The row's text in the page's language, with its gaps filled. */
export function t(name, gaps = {}) {
  const text = TEXT[name][language === "en" ? 1 : 0];
  return text.replace(/\{(\w+)\}/g, (_, gap) => String(gaps[gap]));
}

/** Why a command was refused, in plain words; a code of a later server shows its own message. */
export function reason({ code, message }) {
  return `code_${code}` in TEXT ? t(`code_${code}`) : (message ?? code);
}

/** Fill the words of the static page: data-t is an element's text, data-t-… an attribute's. */
export function translatePage() {
  document.documentElement.lang = language;
  for (const element of document.querySelectorAll("[data-t]")) {
    element.textContent = t(element.dataset.t);
  }
  for (const name of ["placeholder", "aria-label"]) {
    for (const element of document.querySelectorAll(`[data-t-${name}]`)) {
      element.setAttribute(name, t(element.getAttribute(`data-t-${name}`)));
    }
  }
}

/** A number with the language's grouping. */
export function number(value) {
  return new Intl.NumberFormat(language).format(value);
}

/** A time of day, with the date when it is not today. */
export function timeText(ms) {
  const date = new Date(ms);
  const today = date.toDateString() === new Date().toDateString();
  const style = today ? { timeStyle: "short" } : { dateStyle: "short", timeStyle: "short" };
  return new Intl.DateTimeFormat(language, style).format(date);
}
