import { cookies } from "next/headers";
import { redirect } from "next/navigation";

async function enter(form) {
  "use server";
  (await cookies()).set("user", form.get("user"), { secure: true, httpOnly: true });
  redirect("/form");
}

export default async function Page() {
  const user = (await cookies()).get("user")?.value ?? "nobody";
  return <><p>{user}</p><form action={enter}><input name="user" defaultValue="alice" /><button>in</button></form></>;
}
