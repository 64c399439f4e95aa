"use client";
import { useState } from "react";

export default function Page() {
  const [count, setCount] = useState(0);
  return <><h1>Hello</h1><button onClick={() => setCount(count + 1)}>pressed {count} times</button></>;
}
